UPDATE worker SET draining = $2 WHERE id = $1
