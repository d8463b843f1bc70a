UPDATE recovery SET to_epoch = $2, to_worker = $3, to_incarnation = $4, claimed_at = $5,
    queued_at = coalesce(queued_at, $6)
WHERE id = $1
