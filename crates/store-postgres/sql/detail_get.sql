SELECT checkpoint, progress, result, error, exit, note, resume_data FROM run_detail WHERE seq = $1
