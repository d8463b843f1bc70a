SELECT coalesce(sum(n), 0)::bigint FROM queue_count WHERE queue = $1 AND state >= 3 AND state <= 5
