DELETE FROM run_input WHERE seq = ?1
