DELETE FROM worker_gone WHERE id = ANY (ARRAY(SELECT id FROM worker_gone ORDER BY id LIMIT $2)) AND at < $1
