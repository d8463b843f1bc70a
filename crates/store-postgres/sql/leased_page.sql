-- The set of open leases is bounded by the fleet's slots, not by history.
SELECT seq FROM run
WHERE state >= 3 AND state <= 5 AND seq < $1
ORDER BY seq DESC LIMIT $2
