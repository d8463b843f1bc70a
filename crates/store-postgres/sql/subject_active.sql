SELECT seq FROM run_subject WHERE subject = $1 AND active ORDER BY seq DESC LIMIT $2
