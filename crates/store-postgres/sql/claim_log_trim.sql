DELETE FROM queue_claim WHERE queue = $1 AND n <= $2
