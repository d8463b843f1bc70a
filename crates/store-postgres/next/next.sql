-- The schema of a version after this one, which only widens it: columns, an index, and a table of its own.
ALTER TABLE run ADD COLUMN next bigint NOT NULL DEFAULT 0;
ALTER TABLE worker ADD COLUMN next text;
ALTER TABLE replica ADD COLUMN next bigint;
CREATE INDEX run_next ON run (next) WHERE next > 0;
CREATE TABLE of_the_next_version (id bigint PRIMARY KEY, value text NOT NULL);
