-- Under the locks of the rows.
UPDATE worker SET replica = u.replica, home_seq = u.home_seq, session_open = true,
    last_heard_at = greatest(last_heard_at, u.at), rearmed = 0, armed = u.armed
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS u (id, replica, home_seq, at, armed)
WHERE worker.id = u.id
