SELECT at FROM queue_claim WHERE queue = $1 AND n > $2 ORDER BY n
