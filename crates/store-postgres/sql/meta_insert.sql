INSERT INTO meta (id, generation, secret, timeline, observed, catalog, feed_floor) VALUES (1, $1, $2, $3, 0, 0, 0)
ON CONFLICT (id) DO NOTHING
