SELECT state, n FROM queue_count WHERE queue = ?1
