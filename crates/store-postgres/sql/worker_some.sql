SELECT
    id, namespace, name, profile, incarnation, instance, presence, version, host, pid, first_seen_at,
    registered_at, last_heard_at, draining, departed, session_open, replica, home_seq, losses, outbox_key,
    rearmed, armed
FROM worker
WHERE id = ANY ($1) ORDER BY id
