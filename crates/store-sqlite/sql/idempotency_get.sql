SELECT body_hash, runs, at FROM idempotency WHERE namespace = ?1 AND key = ?2
