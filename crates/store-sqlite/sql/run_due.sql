SELECT seq FROM run WHERE due_at IS NOT NULL AND state < 2 AND due_at <= ?1 ORDER BY due_at LIMIT ?2
