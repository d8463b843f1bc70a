-- 9: somebody asked for its end.
SELECT max(at) FROM run_event WHERE seq = $1 AND kind = 9
