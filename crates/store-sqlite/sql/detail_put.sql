INSERT INTO run_detail (seq, checkpoint, progress, result, error, exit, note, resume_data, reason_detail)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (seq) DO UPDATE SET
    checkpoint = coalesce(excluded.checkpoint, checkpoint),
    progress = coalesce(excluded.progress, progress),
    result = coalesce(excluded.result, result),
    error = coalesce(excluded.error, error),
    exit = coalesce(excluded.exit, exit),
    note = coalesce(excluded.note, note),
    resume_data = coalesce(excluded.resume_data, resume_data),
    reason_detail = coalesce(excluded.reason_detail, reason_detail)
