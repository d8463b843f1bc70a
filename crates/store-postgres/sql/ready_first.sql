SELECT rank, queued_at FROM run
WHERE class = $1 AND state = 2 AND NOT blocked
ORDER BY rank, seq LIMIT 1
