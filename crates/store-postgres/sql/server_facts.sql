SELECT
    current_setting('server_version_num')::bigint, current_setting('server_encoding'),
    current_setting('synchronous_commit'), current_setting('fsync'), pg_is_in_recovery()
