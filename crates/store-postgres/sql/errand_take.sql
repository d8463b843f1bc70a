WITH taken AS (
    DELETE FROM errand WHERE id = ANY (ARRAY(SELECT id FROM errand WHERE replica = $1 ORDER BY id LIMIT $2))
    RETURNING id, body
)
SELECT body FROM taken ORDER BY id
