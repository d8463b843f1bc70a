SELECT id, queue, class FROM match_class ORDER BY id
