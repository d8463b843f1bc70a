SELECT leases FROM claim_request WHERE worker = $1 AND incarnation = $2 AND request = $3
