UPDATE run SET blocked = 0 WHERE seq = ?1 AND state = 2 AND blocked = 1
