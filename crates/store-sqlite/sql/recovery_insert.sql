INSERT INTO recovery (
    namespace, run, queue, evidence, reason, from_epoch, from_worker, from_incarnation, last_heard_at,
    lost_at, queued_at, had_checkpoint, fraction, outcome
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14
)
