UPDATE worker SET losses = losses + u.n FROM unnest($1::bigint[], $2::bigint[]) AS u (id, n)
WHERE worker.id = u.id
