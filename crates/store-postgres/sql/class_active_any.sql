SELECT class FROM class_count WHERE class = ANY ($1) GROUP BY class HAVING sum(n) > 0
UNION ALL
SELECT class FROM queue_delta WHERE pinned AND class = ANY ($1)
LIMIT 1
