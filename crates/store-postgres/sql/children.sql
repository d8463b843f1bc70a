SELECT seq FROM run_input WHERE parent = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3
