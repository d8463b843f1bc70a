SELECT seq FROM run_subject WHERE subject = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3
