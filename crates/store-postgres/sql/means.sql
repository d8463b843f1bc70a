-- What the loss of an attempt depends on.
SELECT i.seq, i.options, d.checkpoint, d.progress
FROM run_input i LEFT JOIN run_detail d ON d.seq = i.seq
WHERE i.seq = ANY ($1)
