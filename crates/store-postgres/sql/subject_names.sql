SELECT name FROM subject WHERE name > $1 ORDER BY name LIMIT $2
