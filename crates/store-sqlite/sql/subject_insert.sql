INSERT OR IGNORE INTO run_subject (subject, seq) VALUES (?1, ?2)
