SELECT seq FROM run WHERE state = 0 AND seq < $1 ORDER BY seq DESC LIMIT $2
