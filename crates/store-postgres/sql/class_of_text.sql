SELECT id, queue FROM match_class WHERE class = $1
