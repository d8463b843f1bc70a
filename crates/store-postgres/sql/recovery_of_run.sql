SELECT
    id, run, queue, evidence, reason, from_epoch, from_worker, from_incarnation, to_epoch, to_worker,
    to_incarnation, last_heard_at, lost_at, queued_at, claimed_at, started_at, caught_up_at, had_checkpoint,
    outcome
FROM recovery WHERE run = $1 AND namespace = $2 AND id < $3 ORDER BY id DESC LIMIT $4
