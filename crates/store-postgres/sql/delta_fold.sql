-- Rows of transactions that have ended, moved into a shard.
DELETE FROM queue_delta WHERE id IN (SELECT id FROM queue_delta ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING queue, class, state, pinned
