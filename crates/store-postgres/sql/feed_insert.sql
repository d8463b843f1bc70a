INSERT INTO feed (at, body) VALUES ($1, $2)
