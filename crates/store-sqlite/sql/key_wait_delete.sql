DELETE FROM key_wait WHERE seq = ?1
