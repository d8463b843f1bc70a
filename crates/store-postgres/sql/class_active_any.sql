SELECT class FROM class_count WHERE class = ANY ($1) GROUP BY class HAVING sum(n) > 0 LIMIT 1
