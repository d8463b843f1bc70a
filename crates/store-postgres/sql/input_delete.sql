DELETE FROM run_input WHERE seq = ANY ($1)
