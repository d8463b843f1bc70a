INSERT INTO worker (
    namespace, name, profile, incarnation, instance, outbox_key, presence, version, host, pid, first_seen_at,
    registered_at, last_heard_at, draining, departed, session_open, replica, home_seq, losses
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, 0, 0, 0, 0, 0
)
