UPDATE run_subject SET active = 0 WHERE subject = ?1 AND seq = ?2
