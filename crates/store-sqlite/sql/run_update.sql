UPDATE run SET
    state = ?2, blocked = ?3, rank = ?4, epoch = ?5, failures = ?6, losses = ?7, losses_in_row = ?8,
    outcome = ?9, reason = ?10, queued_at = ?11, due_at = ?12, claimed_at = ?13, started_at = ?14,
    finished_at = ?15, lease_observed = ?16, worker = ?17, incarnation = ?18, closed_by = ?19,
    output_next = ?20, output_seq = ?21, output_bytes = ?22, output_marker = ?23, key = ?24, recovery = ?25, terms = ?26,
    begun_observed = ?27
WHERE seq = ?1
