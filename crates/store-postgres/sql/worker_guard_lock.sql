SELECT id, namespace, incarnation, replica, home_seq, session_open, draining, departed FROM worker
WHERE id = ANY ($1) ORDER BY id FOR UPDATE
