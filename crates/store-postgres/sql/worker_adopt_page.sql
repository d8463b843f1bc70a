SELECT id FROM worker WHERE replica = $1 AND id > $2 ORDER BY id LIMIT $3 FOR UPDATE
