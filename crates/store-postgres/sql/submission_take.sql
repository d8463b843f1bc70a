WITH taken AS (
    DELETE FROM submission
    WHERE n = ANY (ARRAY(SELECT n FROM submission ORDER BY n LIMIT $1 FOR UPDATE SKIP LOCKED))
    RETURNING n, id, namespace, kind, input, options
)
SELECT id, namespace, kind, input, options FROM taken ORDER BY n
