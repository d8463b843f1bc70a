INSERT INTO claim_request (worker, incarnation, request, leases, at) VALUES ($1, $2, $3, $4, $5)
