SELECT DISTINCT terms FROM run INDEXED BY run_leased WHERE state >= 3 AND state <= 5
