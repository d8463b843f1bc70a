-- Ids are in order of time, nearly: only the oldest are looked at.
DELETE FROM run_event WHERE id = ANY (ARRAY(SELECT id FROM run_event ORDER BY id LIMIT $2)) AND at < $1
