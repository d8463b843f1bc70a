SELECT generation, secret, observed, timeline FROM meta WHERE id = 1
