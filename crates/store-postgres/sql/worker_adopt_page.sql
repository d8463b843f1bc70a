SELECT id FROM worker
WHERE replica = $1 AND (replica, id) > ($1, $2) ORDER BY replica, id LIMIT $3 FOR UPDATE
