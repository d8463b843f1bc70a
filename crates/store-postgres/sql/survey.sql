-- What a person may have to change: numbers and rights, in one row.
SELECT
    current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint,
    (SELECT count(*) FROM pg_stat_get_activity(NULL) a WHERE a.datid IS NOT NULL),
    has_database_privilege(current_database(), 'CREATE'),
    (SELECT has_schema_privilege(n.oid, 'CREATE') AND pg_has_role(n.nspowner, 'USAGE') FROM pg_namespace n
     WHERE n.nspname = 'outlive'),
    (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
    coalesce(inet_server_port(), 0)::bigint
