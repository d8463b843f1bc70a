-- What another replica is at is passed over: it is being claimed there, or ended. (`+ 0`: found by its row's number, not in
-- the index of all that is ready.)
SELECT
    seq, id, class, queue, state, blocked, rank, priority, epoch, failures, losses, losses_in_row, outcome,
    reason, created_at, queued_at, due_at, claimed_at, started_at, finished_at, lease_observed, worker,
    incarnation, closed_by, output_next, output_seq, output_bytes, output_marker, slot, key, recovery, terms,
    subjects, begun_observed
FROM run
WHERE seq = ANY ($1) AND state + 0 = 2 AND NOT blocked ORDER BY seq FOR UPDATE SKIP LOCKED
