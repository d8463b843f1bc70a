DELETE FROM key_wait WHERE seq = ANY ($1)
