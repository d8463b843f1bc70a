SELECT seq FROM run WHERE slot = $1 AND slot IS NOT NULL AND state = 2 AND NOT blocked
