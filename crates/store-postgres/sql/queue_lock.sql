SELECT id, policy, paused FROM queue WHERE id = ANY ($1) ORDER BY id FOR UPDATE
