SELECT max(n) FROM queue_claim WHERE queue = $1
