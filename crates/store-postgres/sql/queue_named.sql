SELECT id, namespace, name, policy, paused, created_at, quiet_until FROM queue WHERE namespace = $1 AND name = $2
