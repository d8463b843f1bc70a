SELECT max(seq) FROM run
