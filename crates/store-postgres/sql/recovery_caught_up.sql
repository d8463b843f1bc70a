-- Progress counts once it is at or past what the lost attempt had.
UPDATE recovery SET caught_up_at = $2
WHERE id = $1 AND ($3::double precision IS NULL OR $3 >= coalesce(fraction, 0))
