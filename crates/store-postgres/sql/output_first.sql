SELECT "offset" FROM output WHERE seq = $1 ORDER BY "offset" LIMIT 1
