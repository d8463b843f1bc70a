SELECT waits_for FROM key_wait WHERE seq = $1
