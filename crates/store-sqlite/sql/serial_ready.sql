SELECT seq FROM run WHERE slot = ?1 AND state = 2 AND blocked = 0
