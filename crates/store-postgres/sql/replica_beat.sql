UPDATE replica SET beat = $3, sessions = $4, silent = $5, closed = $6, notes = $7, wrote_at = $8
WHERE id = $1 AND starts = $2
