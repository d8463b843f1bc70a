DELETE FROM attempt WHERE seq = ?1
