UPDATE meta SET generation = $1, timeline = $2 WHERE id = 1
