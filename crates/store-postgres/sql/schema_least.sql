SELECT least FROM outlive.schema_history WHERE version = $1
