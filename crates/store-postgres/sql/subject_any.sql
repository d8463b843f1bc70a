SELECT EXISTS (SELECT FROM run_subject WHERE subject = $1)
