INSERT OR REPLACE INTO worker_gone (id, name, at) VALUES (?1, ?2, ?3)
