INSERT INTO worker_gone (id, name, at) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, at = excluded.at
