SELECT id FROM match_class WHERE queue = $1
