INSERT INTO match_class (queue, class) VALUES ($1, $2) ON CONFLICT (class) DO NOTHING RETURNING id
