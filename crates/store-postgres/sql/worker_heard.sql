UPDATE worker SET last_heard_at = greatest(last_heard_at, $2) WHERE id = $1
