DELETE FROM run_subject WHERE subject = $1 AND seq = $2
