SELECT pg_notify('outlive_ready', $1)
