-- A run like most: nothing has happened to it but a claim. What it has not is written here and not sent.
INSERT INTO run (
    seq, id, class, queue, state, rank, priority, epoch, created_at, queued_at, claimed_at, lease_observed,
    worker, incarnation, terms, begun_observed,
    blocked, failures, losses, losses_in_row, closed_by, output_next, output_seq, output_bytes, output_marker,
    subjects
) SELECT u.*, false, 0, 0, 0, 0, 1, 0, 0, 0, false FROM unnest(
    $1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[],
    $16::bigint[]
) AS u
