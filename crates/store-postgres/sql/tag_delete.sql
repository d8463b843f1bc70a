DELETE FROM run_tag WHERE name = $1 AND value = $2 AND seq = $3
