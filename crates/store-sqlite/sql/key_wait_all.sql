SELECT seq, waits_for FROM key_wait ORDER BY seq
