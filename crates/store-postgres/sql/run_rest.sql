SELECT
    i.seq, i.input, i.options, d.checkpoint, d.progress, d.result, d.error, d.exit, d.note, d.resume_data,
    d.reason_detail
FROM run_input i LEFT JOIN run_detail d ON d.seq = i.seq
WHERE i.seq = ANY ($1)
