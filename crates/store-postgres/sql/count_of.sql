SELECT state, sum(n)::bigint FROM (
    SELECT state, n FROM queue_count WHERE queue = $1
    UNION ALL
    SELECT state, 1 FROM queue_delta WHERE queue = $1
) AS counted GROUP BY state
