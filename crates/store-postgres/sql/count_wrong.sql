-- Counted and summed in one snapshot: what differs now differs by as much at any other time.
WITH counted AS (
    SELECT c.queue, 2::smallint AS state, r.n FROM match_class c
    CROSS JOIN LATERAL (SELECT count(*) AS n FROM run WHERE class = c.id AND state = 2 AND NOT blocked) r
    UNION ALL
    SELECT queue, state, count(*) FROM run WHERE state = 2 AND blocked GROUP BY queue, state
    UNION ALL
    SELECT queue, state, count(*) FROM run WHERE state >= 3 AND state <= 5 GROUP BY queue, state
    UNION ALL
    SELECT queue, state, count(*) FROM run WHERE due_at IS NOT NULL AND state < 2 GROUP BY queue, state
    UNION ALL
    SELECT queue, state, -n FROM queue_count
)
SELECT queue, state, sum(n)::bigint FROM counted GROUP BY queue, state HAVING sum(n) <> 0
