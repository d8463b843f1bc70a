UPDATE meta SET observed = ?1 WHERE id = 1
