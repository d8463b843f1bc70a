INSERT INTO key_wait (seq, waits_for) VALUES ($1, $2)
