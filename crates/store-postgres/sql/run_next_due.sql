SELECT min(due_at) FROM run WHERE due_at IS NOT NULL AND state < 2
