SELECT nextval('run_seq') FROM generate_series(1, $1)
