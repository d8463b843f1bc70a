SELECT version FROM outlive.schema_history ORDER BY version DESC LIMIT 1
