SELECT seq FROM key_wait WHERE waits_for = $1 ORDER BY seq
