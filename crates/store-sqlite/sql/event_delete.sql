DELETE FROM run_event WHERE seq = ?1
