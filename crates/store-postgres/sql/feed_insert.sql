INSERT INTO feed (at, body) VALUES ($1, $2) RETURNING xid::text::bigint
