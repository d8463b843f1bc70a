SELECT name, active, working, last_run, last_state, last_outcome, last_reason, last_at FROM subject
WHERE name = ANY ($1) ORDER BY name FOR UPDATE
