SELECT to_regclass('outlive.schema_history') IS NOT NULL
