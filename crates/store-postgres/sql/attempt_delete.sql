DELETE FROM attempt WHERE seq = ANY ($1)
