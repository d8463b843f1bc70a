SELECT DISTINCT worker, incarnation FROM run WHERE state >= 3 AND state <= 5 ORDER BY worker, incarnation
