INSERT INTO run_tag (name, value, seq) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
