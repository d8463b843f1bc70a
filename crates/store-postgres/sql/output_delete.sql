DELETE FROM output WHERE seq = ANY ($1)
