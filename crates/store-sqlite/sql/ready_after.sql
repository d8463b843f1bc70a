SELECT rank, seq FROM run
WHERE class = ?1 AND state = 2 AND blocked = 0 AND (rank, seq) > (?2, ?3)
ORDER BY rank, seq LIMIT ?4
