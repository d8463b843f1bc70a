INSERT INTO run (
    seq, id, class, queue, state, blocked, rank, priority, epoch, failures, losses, losses_in_row, outcome,
    reason, created_at, queued_at, due_at, claimed_at, started_at, finished_at, lease_observed, worker,
    incarnation, closed_by, output_next, output_seq, output_bytes, output_marker, slot, key, recovery, terms, subjects,
    begun_observed
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
    ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34
)
