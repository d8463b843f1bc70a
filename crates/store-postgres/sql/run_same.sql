-- Those that are the version which that transaction made, locked.
SELECT run.seq FROM unnest($1::bigint[], $2::bigint[]) AS u (seq, made) JOIN run ON run.seq = u.seq
WHERE run.xmin = u.made::int4 ORDER BY run.seq FOR UPDATE OF run
