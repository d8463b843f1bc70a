SELECT id, namespace, name, policy, paused, created_at FROM queue ORDER BY id
