-- Counted again from the runs themselves: one seek for each active run of one subject.
SELECT count(*), coalesce(sum(r.state >= 3), 0)
FROM run_subject AS s CROSS JOIN run AS r ON r.seq = s.seq
WHERE s.subject = ?1 AND s.active = 1 AND r.state < 6
