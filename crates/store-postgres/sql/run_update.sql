-- `made`: of which version the change is, if the row is not locked: the one that this transaction made.
UPDATE run SET
    state = u.state, blocked = u.blocked, rank = u.rank, epoch = u.epoch, failures = u.failures,
    losses = u.losses, losses_in_row = u.losses_in_row, outcome = u.outcome, reason = u.reason,
    queued_at = u.queued_at, due_at = u.due_at, claimed_at = u.claimed_at, started_at = u.started_at,
    finished_at = u.finished_at, lease_observed = u.lease_observed, worker = u.worker,
    incarnation = u.incarnation, closed_by = u.closed_by, output_next = u.output_next,
    output_seq = u.output_seq, output_bytes = u.output_bytes, output_marker = u.output_marker, key = u.key,
    recovery = u.recovery, terms = u.terms, begun_observed = u.begun_observed
FROM unnest(
    $1::bigint[], $2::bigint[], $3::boolean[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
    $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[],
    $22::bigint[], $23::bigint[], $24::text[], $25::bigint[], $26::bigint[], $27::bigint[],
    $28::bigint[]
) AS u (
    seq, state, blocked, rank, epoch, failures, losses, losses_in_row, outcome, reason, queued_at, due_at,
    claimed_at, started_at, finished_at, lease_observed, worker, incarnation, closed_by, output_next,
    output_seq, output_bytes, output_marker, key, recovery, terms, begun_observed, made
)
WHERE run.seq = u.seq AND (u.made IS NULL OR run.xmin = u.made::int4)
