DELETE FROM subject WHERE name = $1
