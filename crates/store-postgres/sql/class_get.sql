SELECT queue, class FROM match_class WHERE id = $1
