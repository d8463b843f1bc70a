SELECT id, queue, class, active FROM match_class ORDER BY id
