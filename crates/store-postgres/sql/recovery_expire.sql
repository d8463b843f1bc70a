DELETE FROM recovery WHERE id = ANY (ARRAY(SELECT id FROM recovery ORDER BY id LIMIT $2)) AND lost_at < $1
