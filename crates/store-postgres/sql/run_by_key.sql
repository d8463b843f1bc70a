SELECT k.queue, k.key, r.seq FROM unnest($1::bigint[], $2::text[]) AS k (queue, key)
CROSS JOIN LATERAL (SELECT seq FROM run WHERE queue = k.queue AND key = k.key AND key IS NOT NULL AND state < 6 LIMIT 1) r
