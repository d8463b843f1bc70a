INSERT INTO run_subject (subject, seq, active) VALUES (?1, ?2, ?3)
ON CONFLICT (subject, seq) DO UPDATE SET active = excluded.active WHERE active != excluded.active
