-- Shared: a session's home and end wait for claims that are under way, and claims for them.
SELECT id, namespace, incarnation, replica, home_seq, session_open, draining, departed FROM worker
WHERE id = ANY ($1) ORDER BY id FOR SHARE
