SELECT s.slot, r.seq FROM unnest($1::text[]) AS s (slot)
CROSS JOIN LATERAL (
    SELECT seq FROM run
    WHERE slot = s.slot AND slot IS NOT NULL AND state = 2
        AND NOT EXISTS (SELECT FROM key_wait WHERE key_wait.seq = run.seq)
    ORDER BY rank, seq LIMIT 1
) r
