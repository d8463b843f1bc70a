INSERT INTO output (seq, "offset", epoch, frame_seq, channel, at, bytes) SELECT * FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bytea[]
)
