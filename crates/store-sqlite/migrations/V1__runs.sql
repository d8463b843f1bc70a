-- Numbers of states: 0 held, 1 scheduled, 2 queued, 3 claimed, 4 running, 5 cancelling, 6 and above terminal.
-- Terminal rows are in no partial index: history costs nothing but its own pages.

-- One row. The observed clock is a value, so that limits in observed time survive restarts.
CREATE TABLE meta (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    generation  BLOB NOT NULL,
    secret      BLOB NOT NULL,
    observed    INTEGER NOT NULL
) STRICT;

CREATE TABLE replica (
    id          INTEGER PRIMARY KEY,
    started_at  INTEGER NOT NULL,
    starts      INTEGER NOT NULL
) STRICT;

CREATE TABLE queue (
    id          INTEGER PRIMARY KEY,
    namespace   TEXT NOT NULL,
    name        TEXT NOT NULL,
    policy      TEXT NOT NULL,
    paused      INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    UNIQUE (namespace, name)
) STRICT;

-- Exact at the end of every transaction: a batch adds up its differences and writes them with its rows.
CREATE TABLE queue_count (
    queue       INTEGER NOT NULL,
    state       INTEGER NOT NULL,
    n           INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) STRICT, WITHOUT ROWID;

-- The last claims of a queue that has a rate, so that "in any window" holds exactly.
CREATE TABLE queue_claim (
    queue       INTEGER NOT NULL,
    n           INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (queue, n)
) STRICT, WITHOUT ROWID;

-- `active` counts the runs that have not ended, only where the class is pinned: what worker collection asks.
CREATE TABLE match_class (
    id          INTEGER PRIMARY KEY,
    queue       INTEGER NOT NULL,
    class       TEXT NOT NULL UNIQUE,
    active      INTEGER NOT NULL
) STRICT;

CREATE INDEX match_class_queue ON match_class (queue);

-- The hot row. `slot` is the serial key within its namespace.
CREATE TABLE run (
    seq             INTEGER PRIMARY KEY,
    id              BLOB NOT NULL UNIQUE,
    class           INTEGER NOT NULL,
    queue           INTEGER NOT NULL,
    state           INTEGER NOT NULL,
    blocked         INTEGER NOT NULL,
    rank            INTEGER NOT NULL,
    priority        INTEGER NOT NULL,
    epoch           INTEGER NOT NULL,
    failures        INTEGER NOT NULL,
    losses          INTEGER NOT NULL,
    losses_in_row   INTEGER NOT NULL,
    outcome         INTEGER,
    reason          INTEGER,
    created_at      INTEGER NOT NULL,
    queued_at       INTEGER,
    due_at          INTEGER,
    claimed_at      INTEGER,
    started_at      INTEGER,
    finished_at     INTEGER,
    lease_observed  INTEGER NOT NULL,
    worker          INTEGER,
    incarnation     INTEGER,
    closed_by       INTEGER NOT NULL,
    output_next     INTEGER NOT NULL,
    output_seq      INTEGER NOT NULL,
    output_bytes    INTEGER NOT NULL,
    output_marker   INTEGER NOT NULL,
    slot            TEXT,
    key             TEXT,
    recovery        INTEGER,
    -- TTL, grace and takeover of the open or last lease, in one number.
    terms           INTEGER NOT NULL
) STRICT;

CREATE INDEX run_ready  ON run (class, rank, seq)   WHERE state = 2 AND blocked = 0;
CREATE INDEX run_leased ON run (worker, seq)        WHERE state >= 3 AND state <= 5;
CREATE INDEX run_due    ON run (due_at)             WHERE due_at IS NOT NULL;
CREATE INDEX run_serial ON run (slot, rank, seq)    WHERE state = 2 AND slot IS NOT NULL;
CREATE UNIQUE INDEX run_key ON run (queue, key)     WHERE key IS NOT NULL AND state < 6;

CREATE TABLE run_input (
    seq         INTEGER PRIMARY KEY,
    input       TEXT NOT NULL,
    options     TEXT,
    parent      BLOB
) STRICT;

CREATE INDEX run_parent ON run_input (parent, seq)  WHERE parent IS NOT NULL;

-- Only when something in it is set.
CREATE TABLE run_detail (
    seq         INTEGER PRIMARY KEY,
    checkpoint  TEXT,
    progress    TEXT,
    result      TEXT,
    error       TEXT,
    exit        TEXT,
    note        TEXT,
    resume_data TEXT
) STRICT;

CREATE TABLE run_tag (
    name        TEXT NOT NULL,
    value       TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    PRIMARY KEY (name, value, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_subject (
    subject     TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    PRIMARY KEY (subject, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    namespace   TEXT NOT NULL,
    key         TEXT NOT NULL,
    body_hash   BLOB NOT NULL,
    runs        BLOB NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_at ON idempotency (at);

-- Who holds a serial key, who is first in line, and who claimed it last (a success after a loss is accepted only from that one).
CREATE TABLE serial_slot (
    slot        TEXT NOT NULL PRIMARY KEY,
    holder      INTEGER,
    head        INTEGER,
    last_claimed INTEGER
) STRICT, WITHOUT ROWID;

-- A run that took its business key from a leased one waits for the end of that lease.
CREATE TABLE key_wait (
    seq         INTEGER PRIMARY KEY,
    waits_for   INTEGER NOT NULL
) STRICT;

-- An attempt that closed without ending its run. The last one is derived from the run's row.
CREATE TABLE attempt (
    seq             INTEGER NOT NULL,
    epoch           INTEGER NOT NULL,
    worker          INTEGER NOT NULL,
    incarnation     INTEGER NOT NULL,
    claimed_at      INTEGER NOT NULL,
    started_at      INTEGER,
    last_heard_at   INTEGER NOT NULL,
    ended_at        INTEGER NOT NULL,
    outcome         INTEGER,
    reason          INTEGER NOT NULL,
    exit            TEXT,
    error           TEXT,
    closed_by       INTEGER NOT NULL,
    marker          INTEGER NOT NULL,
    lost_marker     INTEGER NOT NULL,
    last_seq        INTEGER NOT NULL,
    checkpoint      TEXT,
    PRIMARY KEY (seq, epoch)
) STRICT;

-- Events that rows of runs and attempts do not tell.
CREATE TABLE run_event (
    id          INTEGER PRIMARY KEY,
    seq         INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    state       INTEGER NOT NULL,
    reason      INTEGER,
    note        TEXT
) STRICT;

CREATE INDEX run_event_seq ON run_event (seq, id);

CREATE TABLE output (
    seq         INTEGER NOT NULL,
    offset      INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    frame_seq   INTEGER NOT NULL,
    channel     TEXT NOT NULL,
    at          INTEGER NOT NULL,
    bytes       BLOB NOT NULL,
    PRIMARY KEY (seq, offset)
) STRICT, WITHOUT ROWID;

CREATE TABLE output_gap (
    seq         INTEGER NOT NULL,
    first       INTEGER NOT NULL,
    last        INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    why         TEXT NOT NULL,
    PRIMARY KEY (seq, first)
) STRICT, WITHOUT ROWID;

-- Names are texts: a recovery outlives its run and its workers.
CREATE TABLE recovery (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace       TEXT NOT NULL,
    run             BLOB NOT NULL,
    queue           TEXT NOT NULL,
    evidence        INTEGER NOT NULL,
    reason          INTEGER NOT NULL,
    from_epoch      INTEGER NOT NULL,
    from_worker     TEXT NOT NULL,
    from_incarnation INTEGER NOT NULL,
    to_epoch        INTEGER,
    to_worker       TEXT,
    to_incarnation  INTEGER,
    last_heard_at   INTEGER NOT NULL,
    lost_at         INTEGER NOT NULL,
    queued_at       INTEGER,
    claimed_at      INTEGER,
    started_at      INTEGER,
    caught_up_at    INTEGER,
    had_checkpoint  INTEGER NOT NULL,
    fraction        REAL,
    outcome         INTEGER NOT NULL
) STRICT;

CREATE INDEX recovery_namespace ON recovery (namespace, id);
CREATE INDEX recovery_run ON recovery (run, id);

-- A worker name, its current incarnation, and that one's session.
CREATE TABLE worker (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace       TEXT NOT NULL,
    name            TEXT NOT NULL,
    profile         TEXT NOT NULL,
    incarnation     INTEGER NOT NULL,
    instance        BLOB NOT NULL,
    outbox_key      TEXT NOT NULL,
    presence        INTEGER NOT NULL,
    version         TEXT NOT NULL,
    host            TEXT NOT NULL,
    pid             INTEGER NOT NULL,
    first_seen_at   INTEGER NOT NULL,
    registered_at   INTEGER NOT NULL,
    last_heard_at   INTEGER NOT NULL,
    draining        INTEGER NOT NULL,
    departed        INTEGER NOT NULL,
    session_open    INTEGER NOT NULL,
    replica         INTEGER NOT NULL,
    home_seq        INTEGER NOT NULL,
    announced       INTEGER,
    losses          INTEGER NOT NULL,
    UNIQUE (namespace, name)
) STRICT;

-- Names of deleted workers, for the histories that mention them.
CREATE TABLE worker_gone (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL,
    at          INTEGER NOT NULL
) STRICT;

-- What a polling worker's request was given.
CREATE TABLE claim_request (
    worker      INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    request     BLOB NOT NULL,
    leases      BLOB NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (worker, incarnation, request)
) STRICT, WITHOUT ROWID;

-- One row per group commit: everything that happened in it.
CREATE TABLE feed (
    seq         INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    body        TEXT NOT NULL
) STRICT;
