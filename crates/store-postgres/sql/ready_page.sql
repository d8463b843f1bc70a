SELECT seq FROM run
WHERE class = $1 AND state = 2 AND NOT blocked
ORDER BY rank, seq LIMIT $2
