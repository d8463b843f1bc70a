INSERT INTO run_detail (seq, checkpoint, progress, result, error, exit, note, resume_data, reason_detail)
SELECT * FROM unnest(
    $1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[]
)
ON CONFLICT (seq) DO UPDATE SET
    checkpoint = coalesce(excluded.checkpoint, run_detail.checkpoint),
    progress = coalesce(excluded.progress, run_detail.progress),
    result = coalesce(excluded.result, run_detail.result),
    error = coalesce(excluded.error, run_detail.error),
    exit = coalesce(excluded.exit, run_detail.exit),
    note = coalesce(excluded.note, run_detail.note),
    resume_data = coalesce(excluded.resume_data, run_detail.resume_data),
    reason_detail = coalesce(excluded.reason_detail, run_detail.reason_detail)
