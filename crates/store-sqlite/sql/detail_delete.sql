DELETE FROM run_detail WHERE seq = ?1
