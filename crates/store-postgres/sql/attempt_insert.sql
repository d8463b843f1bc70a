INSERT INTO attempt (
    seq, epoch, worker, incarnation, claimed_at, started_at, last_heard_at, ended_at, outcome, reason, exit,
    error, closed_by, marker, lost_marker, last_seq, checkpoint
) SELECT * FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::bigint[], $11::text[], $12::text[], $13::bigint[], $14::bigint[], $15::bigint[],
    $16::bigint[], $17::text[]
)
