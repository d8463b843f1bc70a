INSERT INTO subject (name, active, working) SELECT name, 0, 0 FROM unnest($1::text[]) AS u (name) ORDER BY name
ON CONFLICT (name) DO NOTHING
