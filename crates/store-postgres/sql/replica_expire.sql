-- Seats that nobody has had for long, and that are nobody's home: a name that comes back gets another one.
DELETE FROM replica WHERE id = ANY (ARRAY(
    SELECT id FROM replica r WHERE greatest(wrote_at, started_at) < $1
    AND NOT EXISTS (SELECT FROM worker w WHERE w.replica = r.id AND w.session_open)
    AND NOT EXISTS (SELECT FROM errand e WHERE e.replica = r.id)
    ORDER BY id LIMIT $2
)) AND greatest(wrote_at, started_at) < $1
