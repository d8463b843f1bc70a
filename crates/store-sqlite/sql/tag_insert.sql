INSERT INTO run_tag (name, value, seq) VALUES (?1, ?2, ?3)
