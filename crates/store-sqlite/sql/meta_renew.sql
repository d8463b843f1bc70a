UPDATE meta SET generation = ?1 WHERE id = 1
