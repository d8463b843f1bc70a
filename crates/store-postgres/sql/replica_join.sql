INSERT INTO replica (name, address, started_at, starts, beat, taken, sessions, silent, closed, wrote_at, notes)
VALUES ($1, $2, $3, 1, 0, 0, 0, 0, 0, 0, '[]')
ON CONFLICT (name) DO UPDATE SET
    address = excluded.address, started_at = excluded.started_at, starts = replica.starts + 1, beat = replica.beat + 1
RETURNING id, beat, taken, starts
