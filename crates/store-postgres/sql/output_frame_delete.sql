DELETE FROM output WHERE seq = $1 AND "offset" = ANY ($2)
