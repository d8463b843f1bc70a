SELECT checkpoint, progress, result, error, exit, note, resume_data, reason_detail FROM run_detail WHERE seq = ?1
