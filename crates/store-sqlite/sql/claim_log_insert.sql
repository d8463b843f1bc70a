INSERT INTO queue_claim (queue, n, at) VALUES (?1, ?2, ?3)
