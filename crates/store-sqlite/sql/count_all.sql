SELECT queue, state, n FROM queue_count
