INSERT INTO run_event (seq, kind, at, epoch, state, reason, note) SELECT * FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[]
)
