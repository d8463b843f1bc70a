UPDATE worker SET replica = $2, home_seq = home_seq + 1, session_open = true,
    last_heard_at = greatest(last_heard_at, $3), rearmed = 0, armed = $4
WHERE id = $1
