UPDATE worker SET departed = true, session_open = false, last_heard_at = greatest(last_heard_at, $2) WHERE id = $1
