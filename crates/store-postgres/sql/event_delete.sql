DELETE FROM run_event WHERE seq = ANY ($1)
