UPDATE worker SET
    profile = $2, incarnation = $3, instance = $4, outbox_key = $5, presence = $6, version = $7, host = $8,
    pid = $9, registered_at = $10, last_heard_at = $11, draining = $12, departed = $13, session_open = $14
WHERE id = $1
