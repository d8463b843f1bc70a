SELECT 1 FROM run_subject WHERE subject = ?1 LIMIT 1
