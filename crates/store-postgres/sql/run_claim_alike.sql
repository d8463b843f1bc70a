-- The same for many rows. (`made`, the last one: as in run_update.)
UPDATE run SET
    state = $2, epoch = $3, claimed_at = $4, due_at = $5, lease_observed = $6, begun_observed = $7, worker = $8,
    incarnation = $9, terms = $10
WHERE seq = ANY ($1) AND ($11::bigint IS NULL OR xmin = $11::int4)
