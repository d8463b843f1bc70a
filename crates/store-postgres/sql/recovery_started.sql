UPDATE recovery SET started_at = $2, outcome = $3 WHERE id = $1
