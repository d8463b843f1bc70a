DELETE FROM idempotency WHERE (namespace, key) IN (
    SELECT namespace, key FROM idempotency WHERE at < ?1 ORDER BY at LIMIT ?2
)
