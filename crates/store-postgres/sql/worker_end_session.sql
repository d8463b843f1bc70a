UPDATE worker SET session_open = false, last_heard_at = greatest(last_heard_at, $3) WHERE id = $1 AND incarnation = $2
