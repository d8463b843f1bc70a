UPDATE worker SET session_open = 0, last_heard_at = max(last_heard_at, ?3) WHERE id = ?1 AND incarnation = ?2
