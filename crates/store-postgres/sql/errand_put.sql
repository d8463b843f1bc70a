INSERT INTO errand (replica, at, body) VALUES ($1, $2, $3)
