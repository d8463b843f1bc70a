INSERT INTO queue_claim (queue, n, at) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
