-- 0 is open: a recovery that got as far as a start stays recovered.
UPDATE recovery SET outcome = $2 WHERE id = $1 AND outcome = 0
