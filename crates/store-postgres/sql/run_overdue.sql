-- By the database's clock, if no other is given.
SELECT seq FROM run
WHERE due_at IS NOT NULL AND state = 2 AND due_at <= coalesce($1::bigint, (extract(epoch FROM now()) * 1000)::bigint)
ORDER BY due_at LIMIT $2
