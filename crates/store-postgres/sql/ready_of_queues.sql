SELECT c.queue, c.id FROM match_class c
CROSS JOIN LATERAL (SELECT seq FROM run WHERE class = c.id AND state = 2 AND NOT blocked LIMIT 1) r
WHERE c.queue = ANY ($1)
