-- What the end of an attempt that ends its run may change, beside what a touch does. (`made`: as in run_update.)
UPDATE run SET
    state = u.state, outcome = u.outcome, reason = u.reason, finished_at = u.finished_at, closed_by = u.closed_by,
    losses_in_row = u.losses_in_row, started_at = u.started_at, lease_observed = u.lease_observed,
    output_next = u.output_next, output_seq = u.output_seq, output_bytes = u.output_bytes,
    output_marker = u.output_marker, recovery = u.recovery, begun_observed = u.begun_observed
FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
    $15::bigint[], $16::bigint[]
) AS u (
    seq, state, outcome, reason, finished_at, closed_by, losses_in_row, started_at, lease_observed, output_next,
    output_seq, output_bytes, output_marker, recovery, begun_observed, made
)
WHERE run.seq = u.seq AND (u.made IS NULL OR run.xmin = u.made::int4)
