-- The set of open leases is bounded by the fleet's slots, not by history. (`+ 0`: out of the index of leases, whose order is
-- another one, and not by walking back over all rows.)
SELECT seq FROM run
WHERE state >= 3 AND state <= 5 AND seq + 0 < $1
ORDER BY seq + 0 DESC LIMIT $2
