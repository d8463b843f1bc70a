DELETE FROM output WHERE seq = ?1
