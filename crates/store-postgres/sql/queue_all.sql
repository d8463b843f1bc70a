SELECT id, namespace, name, policy, paused, created_at, quiet_until FROM queue ORDER BY id
