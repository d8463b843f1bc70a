INSERT INTO recovery (
    id, namespace, run, queue, evidence, reason, from_epoch, from_worker, from_incarnation, last_heard_at,
    lost_at, queued_at, had_checkpoint, fraction, outcome
) SELECT * FROM unnest(
    $1::bigint[], $2::text[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::boolean[], $14::double precision[],
    $15::bigint[]
)
