DELETE FROM claim_request WHERE worker = $1
