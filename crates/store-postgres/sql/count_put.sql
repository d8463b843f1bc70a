INSERT INTO queue_count (queue, shard, state, n)
SELECT queue, $1, state, n FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS d (queue, state, n)
ON CONFLICT (queue, shard, state) DO UPDATE SET n = queue_count.n + excluded.n
