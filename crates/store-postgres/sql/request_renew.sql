DELETE FROM claim_request
