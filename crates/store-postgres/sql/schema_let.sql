UPDATE outlive.schema_history SET least = $2 WHERE version = $1
