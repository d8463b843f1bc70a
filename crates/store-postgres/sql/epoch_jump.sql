-- No lease of before passes: a claim that was lost with the old primary may have had any of the epochs between.
UPDATE run SET epoch = epoch + $1 WHERE state < 6 AND seq = ANY (ARRAY(SELECT seq FROM run WHERE state < 6 AND seq > $2 ORDER BY seq LIMIT $3))
RETURNING seq
