INSERT INTO run_event (seq, kind, at, epoch, state, reason, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
