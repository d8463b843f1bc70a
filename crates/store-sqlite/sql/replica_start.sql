INSERT INTO replica (id, started_at, starts) VALUES (?1, ?2, 1)
ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, starts = starts + 1
