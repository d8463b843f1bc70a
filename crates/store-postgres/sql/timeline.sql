-- The history that is being written: a promoted standby, or a copy restored to a point in time, writes another one.
SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint
