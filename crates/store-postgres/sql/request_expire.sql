DELETE FROM claim_request WHERE worker = $1 AND at < $2
