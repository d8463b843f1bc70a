SELECT nextval('recovery_id') FROM generate_series(1, $1)
