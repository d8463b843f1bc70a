UPDATE meta SET observed = greatest(observed, $1) WHERE id = 1 RETURNING observed
