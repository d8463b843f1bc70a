SELECT (SELECT min(seq) FROM feed), (SELECT max(seq) FROM feed)
