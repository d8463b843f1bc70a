-- Several servers over one store: a row each, rewritten each second. A name is a seat; the sole server of a file has none.
ALTER TABLE replica ADD COLUMN name     TEXT NOT NULL DEFAULT '';
ALTER TABLE replica ADD COLUMN address  TEXT NOT NULL DEFAULT '';
ALTER TABLE replica ADD COLUMN beat     INTEGER NOT NULL DEFAULT 0;
-- How often others have taken sessions from it.
ALTER TABLE replica ADD COLUMN taken    INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replica ADD COLUMN sessions INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replica ADD COLUMN silent   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replica ADD COLUMN closed   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replica ADD COLUMN notes    TEXT NOT NULL DEFAULT '[]';
ALTER TABLE replica ADD COLUMN wrote_at INTEGER NOT NULL DEFAULT 0;

CREATE UNIQUE INDEX replica_name ON replica (name) WHERE name <> '';

-- Adoptions since a session opened, and the observed clock of the last time that gave a full TTL.
ALTER TABLE worker ADD COLUMN rearmed   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE worker ADD COLUMN armed     INTEGER NOT NULL DEFAULT 0;

CREATE INDEX worker_home ON worker (replica, id);
