SELECT k.namespace, k.key, i.body_hash, i.runs, i.at
FROM unnest($1::text[], $2::text[]) AS k (namespace, key)
CROSS JOIN LATERAL (SELECT * FROM idempotency WHERE namespace = k.namespace AND key = k.key LIMIT 1) i
