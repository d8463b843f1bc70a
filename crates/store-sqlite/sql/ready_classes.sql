-- Skips from class to class: one seek for each that has a ready run.
WITH RECURSIVE ready(class) AS (
    SELECT min(class) FROM run WHERE state = 2 AND blocked = 0
    UNION ALL
    SELECT (SELECT min(class) FROM run WHERE state = 2 AND blocked = 0 AND class > ready.class)
    FROM ready WHERE ready.class IS NOT NULL
)
SELECT class FROM ready WHERE class IS NOT NULL
