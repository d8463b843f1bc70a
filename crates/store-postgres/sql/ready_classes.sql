-- Skips from class to class: one seek for each that has a ready run.
WITH RECURSIVE ready (class) AS (
    (SELECT class FROM run WHERE state = 2 AND NOT blocked ORDER BY class LIMIT 1)
    UNION ALL
    SELECT (SELECT class FROM run WHERE state = 2 AND NOT blocked AND class > ready.class ORDER BY class LIMIT 1)
    FROM ready WHERE ready.class IS NOT NULL
)
SELECT class FROM ready WHERE class IS NOT NULL
