DELETE FROM run_detail WHERE seq = ANY ($1)
