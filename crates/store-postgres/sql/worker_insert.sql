INSERT INTO worker (
    namespace, name, profile, incarnation, instance, outbox_key, presence, version, host, pid, first_seen_at,
    registered_at, last_heard_at, draining, departed, session_open, replica, home_seq, losses
) VALUES (
    $1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10, $10, $10, false, false, false, 0, 0, 0
) RETURNING id
