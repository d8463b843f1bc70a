INSERT INTO queue (namespace, name, policy, paused, created_at) VALUES (?1, ?2, ?3, 0, ?4)
