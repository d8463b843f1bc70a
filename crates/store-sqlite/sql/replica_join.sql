INSERT INTO replica (name, address, started_at, starts) VALUES (?1, ?2, ?3, 1)
ON CONFLICT (name) WHERE name <> '' DO UPDATE SET
    address = excluded.address, started_at = excluded.started_at, starts = starts + 1, beat = beat + 1
RETURNING id, beat, taken, starts
