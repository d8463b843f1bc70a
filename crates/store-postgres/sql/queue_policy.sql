UPDATE queue SET policy = $2 WHERE id = $1 RETURNING id, namespace, name, policy, paused, created_at, quiet_until
