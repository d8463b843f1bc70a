-- Columns that no index knows: what output, progress and checkpoints write.
UPDATE run SET
    losses_in_row = u.losses_in_row, started_at = u.started_at, lease_observed = u.lease_observed,
    output_next = u.output_next, output_seq = u.output_seq, output_bytes = u.output_bytes,
    output_marker = u.output_marker, recovery = u.recovery, begun_observed = u.begun_observed
FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[]
) AS u (
    seq, losses_in_row, started_at, lease_observed, output_next, output_seq, output_bytes, output_marker,
    recovery, begun_observed, made
)
WHERE run.seq = u.seq AND (u.made IS NULL OR run.xmin = u.made::int4)
