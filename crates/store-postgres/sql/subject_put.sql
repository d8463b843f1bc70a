UPDATE subject SET
    active = u.active, working = u.working, last_run = u.last_run, last_state = u.last_state,
    last_outcome = u.last_outcome, last_reason = u.last_reason, last_at = u.last_at
FROM unnest(
    $1::text[], $2::bigint[], $3::bigint[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]
) AS u (name, active, working, last_run, last_state, last_outcome, last_reason, last_at)
WHERE subject.name = u.name
