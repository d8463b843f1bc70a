-- No lease of before passes: a claim that was lost with the other history may have had any of the epochs between. And nobody
-- holds anything: what an earlier worker says of its last attempt is not heard.
UPDATE run SET epoch = epoch + $1, worker = NULL, incarnation = NULL
WHERE state < 6 AND seq = ANY (ARRAY(SELECT seq FROM run WHERE state < 6 AND seq > $2 ORDER BY seq LIMIT $3))
RETURNING seq
