-- The same for many rows. (`made`, the last one: as in run_update.)
UPDATE run SET
    state = $2, outcome = $3, reason = $4, finished_at = $5, closed_by = $6, losses_in_row = $7, started_at = $8,
    lease_observed = $9, output_next = $10, output_seq = $11, output_bytes = $12, output_marker = $13,
    recovery = $14, begun_observed = $15
WHERE seq = ANY ($1) AND ($16::bigint IS NULL OR xmin = $16::int4)
