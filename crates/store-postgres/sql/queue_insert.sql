INSERT INTO queue (namespace, name, policy, paused, created_at) VALUES ($1, $2, $3, false, $4)
ON CONFLICT (namespace, name) DO NOTHING RETURNING id
