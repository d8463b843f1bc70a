INSERT INTO attempt (
    seq, epoch, worker, incarnation, claimed_at, started_at, last_heard_at, ended_at, outcome, reason, exit,
    error, closed_by, marker, lost_marker, last_seq, checkpoint
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17
)
