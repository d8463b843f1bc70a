SELECT "offset", length(bytes)::bigint FROM output WHERE seq = $1 AND "offset" > $2 ORDER BY "offset" LIMIT $3
