SELECT seq FROM run_tag WHERE name = $1 AND value = $2 AND seq < $3 ORDER BY seq DESC LIMIT $4
