SELECT count(*), coalesce(sum(state >= 3 AND state <= 5), 0) FROM run
