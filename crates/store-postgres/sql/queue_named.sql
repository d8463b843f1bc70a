SELECT id, namespace, name, policy, paused, created_at FROM queue WHERE namespace = $1 AND name = $2
