SELECT i.seq, i.input, i.options, d.checkpoint, d.resume_data
FROM run_input i LEFT JOIN run_detail d ON d.seq = i.seq
WHERE i.seq = ANY ($1)
