UPDATE run SET blocked = 1 WHERE seq = ?1 AND state = 2 AND blocked = 0
