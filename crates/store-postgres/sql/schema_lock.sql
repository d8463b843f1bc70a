-- For the transaction: two replicas that start at once migrate one after the other.
SELECT pg_advisory_xact_lock(7810769021123)
