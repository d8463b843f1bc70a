SELECT coalesce(max(version), 0)::bigint FROM outlive.schema_history
