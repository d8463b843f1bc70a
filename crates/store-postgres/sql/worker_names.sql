SELECT id, name, namespace FROM worker WHERE id = ANY ($1)
UNION ALL
SELECT id, name, NULL FROM worker_gone WHERE id = ANY ($1)
