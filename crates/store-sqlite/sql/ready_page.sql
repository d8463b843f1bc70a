SELECT seq FROM run WHERE class = ?1 AND state = 2 AND blocked = 0 ORDER BY rank, seq LIMIT ?2
