SELECT
    epoch, worker, incarnation, claimed_at, started_at, last_heard_at, ended_at, outcome, reason, exit, error,
    closed_by, marker, lost_marker, last_seq, checkpoint
FROM attempt WHERE seq = $1 ORDER BY epoch
