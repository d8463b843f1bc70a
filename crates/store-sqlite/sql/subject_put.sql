INSERT INTO subject (name, active, working, last_run, last_state, last_outcome, last_reason, last_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT (name) DO UPDATE SET active = ?2, working = ?3, last_run = ?4, last_state = ?5, last_outcome = ?6,
    last_reason = ?7, last_at = ?8
