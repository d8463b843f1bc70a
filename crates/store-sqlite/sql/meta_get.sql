SELECT generation, secret, observed FROM meta WHERE id = 1
