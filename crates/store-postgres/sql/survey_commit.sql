-- A commit that is synced to the log of the database and changes nothing.
SELECT pg_logical_emit_message(true, 'outlive.doctor', '')::text
