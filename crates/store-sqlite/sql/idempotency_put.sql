INSERT INTO idempotency (namespace, key, body_hash, runs, at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (namespace, key) DO UPDATE SET body_hash = excluded.body_hash, runs = excluded.runs, at = excluded.at
