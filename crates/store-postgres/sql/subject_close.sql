UPDATE run_subject SET active = false
FROM unnest($1::text[], $2::bigint[]) AS u (subject, seq)
WHERE run_subject.subject = u.subject AND run_subject.seq = u.seq AND run_subject.active
