INSERT INTO match_class (queue, class, active) VALUES (?1, ?2, 0)
