-- What a first claim may change. (`made`: as in run_update.)
UPDATE run SET
    state = u.state, epoch = u.epoch, claimed_at = u.claimed_at, due_at = u.due_at,
    lease_observed = u.lease_observed, begun_observed = u.begun_observed, worker = u.worker,
    incarnation = u.incarnation, terms = u.terms
FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[]
) AS u (
    seq, state, epoch, claimed_at, due_at, lease_observed, begun_observed, worker, incarnation, terms, made
)
WHERE run.seq = u.seq AND (u.made IS NULL OR run.xmin = u.made::int4)
