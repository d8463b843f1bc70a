-- What has expired is replaced; what has not was written by somebody else since it was looked for: one row less.
INSERT INTO idempotency (namespace, key, body_hash, runs, at)
SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::bigint[])
ON CONFLICT (namespace, key) DO UPDATE SET body_hash = excluded.body_hash, runs = excluded.runs, at = excluded.at
WHERE idempotency.at <= $6
