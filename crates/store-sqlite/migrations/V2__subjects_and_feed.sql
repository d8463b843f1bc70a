-- Subjects have rows of their own, kept with every transition of their runs; the edges of a worker's session are told in the
-- transactions that make them, so that none has to be remembered.

-- Whether a run's options name subjects: what a transition asks.
ALTER TABLE run ADD COLUMN subjects INTEGER NOT NULL DEFAULT 0;

UPDATE run SET subjects = 1 WHERE seq IN (SELECT seq FROM run_subject);

-- `name` is the subject within its namespace. Counts are exact at the end of every transaction.
CREATE TABLE subject (
    name         TEXT NOT NULL PRIMARY KEY,
    active       INTEGER NOT NULL,
    working      INTEGER NOT NULL,
    last_run     BLOB,
    last_state   INTEGER,
    last_outcome INTEGER,
    last_reason  INTEGER,
    last_at      INTEGER
) STRICT, WITHOUT ROWID;

-- The same rows as before, by namespace, and which of their runs are active.
CREATE TABLE run_subject_named (
    subject     TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    active      INTEGER NOT NULL,
    PRIMARY KEY (subject, seq)
) STRICT, WITHOUT ROWID;

INSERT INTO run_subject_named (subject, seq, active)
SELECT json_extract(c.class, '$.namespace') || char(31) || s.subject, s.seq, r.state < 6
FROM run_subject AS s JOIN run AS r ON r.seq = s.seq JOIN match_class AS c ON c.id = r.class;

DROP TABLE run_subject;

ALTER TABLE run_subject_named RENAME TO run_subject;

CREATE INDEX run_subject_active ON run_subject (subject, seq) WHERE active = 1;

INSERT INTO subject (name, active, working)
SELECT s.subject, sum(s.active), sum(r.state >= 3 AND r.state <= 5)
FROM run_subject AS s JOIN run AS r ON r.seq = s.seq GROUP BY s.subject;

ALTER TABLE worker DROP COLUMN announced;
