-- Columns that no index knows: what output, progress and checkpoints write.
UPDATE run SET
    losses_in_row = ?2, started_at = ?3, lease_observed = ?4, output_next = ?5, output_seq = ?6,
    output_bytes = ?7, output_marker = ?8, recovery = ?9,
    begun_observed = ?10
WHERE seq = ?1
