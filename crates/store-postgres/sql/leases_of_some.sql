SELECT seq FROM run WHERE worker = ANY ($1) AND state >= 3 AND state <= 5 ORDER BY seq
