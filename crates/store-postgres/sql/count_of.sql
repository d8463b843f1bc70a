SELECT state, sum(n)::bigint FROM queue_count WHERE queue = $1 GROUP BY state
