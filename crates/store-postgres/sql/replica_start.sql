-- The row of this name's seat; the seat itself is taken by a join.
INSERT INTO replica (name, address, started_at, starts, beat, taken, sessions, silent, closed, wrote_at, notes)
VALUES ($1, '', $2, 0, 0, 0, 0, 0, 0, 0, '[]')
ON CONFLICT (name) DO UPDATE SET name = excluded.name
RETURNING id
