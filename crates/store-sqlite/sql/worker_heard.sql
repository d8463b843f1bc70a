UPDATE worker SET last_heard_at = max(last_heard_at, ?2) WHERE id = ?1
