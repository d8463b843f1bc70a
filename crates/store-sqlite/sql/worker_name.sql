SELECT name FROM worker WHERE id = ?1
UNION ALL
SELECT name FROM worker_gone WHERE id = ?1
LIMIT 1
