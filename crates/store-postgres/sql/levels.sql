SELECT
    catalog + coalesce((SELECT max(id) FROM match_class), 0) + coalesce((SELECT max(id) FROM queue), 0),
    EXISTS (SELECT FROM errand WHERE replica = $1)
FROM meta WHERE id = 1
