UPDATE worker SET departed = 1, session_open = 0, last_heard_at = max(last_heard_at, ?2) WHERE id = ?1
