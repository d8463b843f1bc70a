-- Writes this replica's row and reads those of all, as they were before. What others took from it is of the row as it is
-- written: an adoption that was first is seen, and no row means that the seat is another process's.
WITH own AS (
    UPDATE replica SET beat = $3, sessions = $4, silent = $5, closed = $6, notes = $7, wrote_at = $8
    WHERE id = $1 AND starts = $2 RETURNING taken
)
SELECT id, beat, sessions, silent, closed, notes, name, address, started_at, wrote_at, (SELECT taken FROM own)
FROM replica ORDER BY id
