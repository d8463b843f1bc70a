INSERT INTO class_count (class, shard, n) SELECT class, $1, n FROM unnest($2::bigint[], $3::bigint[]) AS d (class, n)
ON CONFLICT (class, shard) DO UPDATE SET n = class_count.n + excluded.n
