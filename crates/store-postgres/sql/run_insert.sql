INSERT INTO run (
    seq, id, class, queue, state, blocked, rank, priority, epoch, failures, losses, losses_in_row, outcome,
    reason, created_at, queued_at, due_at, claimed_at, started_at, finished_at, lease_observed, worker,
    incarnation, closed_by, output_next, output_seq, output_bytes, output_marker, slot, key, recovery, terms,
    subjects, begun_observed
) SELECT * FROM unnest(
    $1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
    $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[],
    $22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], $28::bigint[],
    $29::text[], $30::text[], $31::bigint[], $32::bigint[], $33::boolean[], $34::bigint[]
)
