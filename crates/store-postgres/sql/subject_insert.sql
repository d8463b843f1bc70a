INSERT INTO run_subject (subject, seq, active) SELECT * FROM unnest($1::text[], $2::bigint[], $3::boolean[])
ON CONFLICT (subject, seq) DO UPDATE SET active = excluded.active WHERE run_subject.active <> excluded.active
