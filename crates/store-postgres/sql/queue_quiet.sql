UPDATE queue q SET quiet_until = greatest(q.quiet_until, new.until)
FROM unnest($1::bigint[], $2::bigint[]) AS new (id, until) WHERE q.id = new.id
