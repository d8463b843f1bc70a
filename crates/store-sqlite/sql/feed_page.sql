SELECT seq, body FROM feed WHERE seq >= ?1 ORDER BY seq LIMIT ?2
