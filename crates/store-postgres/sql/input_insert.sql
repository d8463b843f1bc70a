INSERT INTO run_input (seq, input, options, parent)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::uuid[])
