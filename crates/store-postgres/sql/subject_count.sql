-- Counted again from the runs themselves: one seek for each active run of one subject.
SELECT count(*), count(*) FILTER (WHERE r.state >= 3)
FROM run_subject s CROSS JOIN LATERAL (SELECT state FROM run WHERE seq = s.seq LIMIT 1) r
WHERE s.subject = $1 AND s.active AND r.state < 6
