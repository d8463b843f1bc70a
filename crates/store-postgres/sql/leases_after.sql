SELECT worker, seq FROM run
WHERE state >= 3 AND state <= 5 AND (worker, seq) > ($1, $2)
ORDER BY worker, seq LIMIT $3
