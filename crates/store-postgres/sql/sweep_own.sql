-- Whether this transaction is the one that does the phase now. An optimisation: what each phase writes repeats its condition.
SELECT pg_try_advisory_xact_lock(1869968492, $1::bigint::int)
