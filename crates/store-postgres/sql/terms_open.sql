-- The set of open leases is bounded by the fleet's slots, not by history.
SELECT DISTINCT queue, terms FROM run WHERE state >= 3 AND state <= 5
