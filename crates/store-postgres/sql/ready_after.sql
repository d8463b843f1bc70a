SELECT r.class, r.rank, r.seq, r.slot
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS c (class, rank, seq, page)
CROSS JOIN LATERAL (
    SELECT class, rank, seq, slot FROM run
    WHERE class = c.class AND state = 2 AND NOT blocked AND (rank, seq) > (c.rank, c.seq)
    ORDER BY rank, seq LIMIT c.page
) r
