-- Everything is in the schema `outlive`, so that it can share a database with an application.
-- Numbers of states: 0 held, 1 scheduled, 2 queued, 3 claimed, 4 running, 5 cancelling, 6 and above terminal.
-- Terminal rows are in no partial index: history costs nothing but its own pages.

-- One row. The observed clock is a value, so that limits in observed time survive restarts. `catalog` rises with every change
-- of a queue or a class: what replicas keep in memory is read again when it has risen. `timeline` is the history of the
-- database that the generation belongs to.
CREATE TABLE meta (
    id          smallint PRIMARY KEY CHECK (id = 1),
    generation  uuid NOT NULL,
    secret      bytea NOT NULL,
    timeline    bigint NOT NULL,
    observed    bigint NOT NULL,
    catalog     bigint NOT NULL,
    -- The last transaction whose events were deleted.
    feed_floor  bigint NOT NULL
) WITH (fillfactor = 10);

-- Servers over this database: a row each, rewritten each second. A name is a seat.
CREATE TABLE replica (
    id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name        text NOT NULL UNIQUE,
    address     text NOT NULL,
    started_at  bigint NOT NULL,
    starts      bigint NOT NULL,
    beat        bigint NOT NULL,
    -- How often others have taken sessions from it.
    taken       bigint NOT NULL,
    sessions    bigint NOT NULL,
    silent      bigint NOT NULL,
    closed      bigint NOT NULL,
    wrote_at    bigint NOT NULL,
    notes       text NOT NULL
) WITH (fillfactor = 20);

CREATE TABLE queue (
    id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    namespace   text NOT NULL,
    name        text NOT NULL,
    policy      text NOT NULL,
    paused      boolean NOT NULL,
    created_at  bigint NOT NULL,
    UNIQUE (namespace, name)
);

-- Exact at the end of every transaction: the sum over the shards. Each replica adds to a shard of its own, so that no two
-- wait for each other; whoever needs an exact sum against others' claims (a cap) locks the queue's row first.
CREATE TABLE queue_count (
    queue       bigint NOT NULL,
    shard       smallint NOT NULL,
    state       smallint NOT NULL,
    n           bigint NOT NULL,
    PRIMARY KEY (queue, shard, state)
) WITH (fillfactor = 20);

-- The last claims of a queue that has a rate, so that "in any window" holds exactly.
CREATE TABLE queue_claim (
    queue       bigint NOT NULL,
    n           bigint NOT NULL,
    at          bigint NOT NULL,
    PRIMARY KEY (queue, n)
);

CREATE TABLE match_class (
    id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    queue       bigint NOT NULL,
    class       text NOT NULL UNIQUE
);

CREATE INDEX match_class_queue ON match_class (queue);

-- Runs of a pinned class that have not ended: what worker collection asks. Sums over shards.
CREATE TABLE class_count (
    class       bigint NOT NULL,
    shard       smallint NOT NULL,
    n           bigint NOT NULL,
    PRIMARY KEY (class, shard)
) WITH (fillfactor = 20);

CREATE SEQUENCE run_seq;

-- The hot row. `slot` is the serial key within its namespace. Wide columns first: nothing is lost to alignment.
CREATE TABLE run (
    seq             bigint PRIMARY KEY,
    id              uuid NOT NULL UNIQUE,
    class           bigint NOT NULL,
    queue           bigint NOT NULL,
    rank            bigint NOT NULL,
    epoch           bigint NOT NULL,
    created_at      bigint NOT NULL,
    queued_at       bigint,
    due_at          bigint,
    claimed_at      bigint,
    started_at      bigint,
    finished_at     bigint,
    lease_observed  bigint NOT NULL,
    worker          bigint,
    incarnation     bigint,
    output_next     bigint NOT NULL,
    output_seq      bigint NOT NULL,
    output_bytes    bigint NOT NULL,
    output_marker   bigint NOT NULL,
    recovery        bigint,
    -- TTL, grace and takeover of the open or last lease, in one number.
    terms           bigint NOT NULL,
    failures        bigint NOT NULL,
    losses          bigint NOT NULL,
    losses_in_row   bigint NOT NULL,
    state           smallint NOT NULL,
    priority        smallint NOT NULL,
    outcome         smallint,
    reason          smallint,
    closed_by       smallint NOT NULL,
    blocked         boolean NOT NULL,
    -- Whether its options name subjects: what a transition asks.
    subjects        boolean NOT NULL,
    slot            text,
    key             text
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);

CREATE INDEX run_ready  ON run (class, rank, seq)   WHERE state = 2 AND NOT blocked;
CREATE INDEX run_leased ON run (worker, seq)        WHERE state >= 3 AND state <= 5;
CREATE INDEX run_due    ON run (due_at)             WHERE due_at IS NOT NULL;
CREATE INDEX run_serial ON run (slot, rank, seq)    WHERE state = 2 AND slot IS NOT NULL;
CREATE INDEX run_blocked ON run (seq)               WHERE state = 2 AND blocked;
CREATE UNIQUE INDEX run_key ON run (queue, key)     WHERE key IS NOT NULL AND state < 6;

CREATE TABLE run_input (
    seq         bigint PRIMARY KEY,
    input       text NOT NULL,
    options     text,
    parent      uuid
);

CREATE INDEX run_parent ON run_input (parent, seq)  WHERE parent IS NOT NULL;

-- Only when something in it is set. Texts and not json: what a user wrote comes back as it was.
CREATE TABLE run_detail (
    seq         bigint PRIMARY KEY,
    checkpoint  text,
    progress    text,
    result      text,
    error       text,
    exit        text,
    note        text,
    resume_data text
) WITH (fillfactor = 70);

CREATE TABLE run_tag (
    name        text NOT NULL,
    value       text NOT NULL,
    seq         bigint NOT NULL,
    PRIMARY KEY (name, value, seq)
);

-- Subjects are within their namespaces, as serial keys are.
CREATE TABLE run_subject (
    subject     text NOT NULL,
    seq         bigint NOT NULL,
    active      boolean NOT NULL,
    PRIMARY KEY (subject, seq)
);

CREATE INDEX run_subject_active ON run_subject (subject, seq) WHERE active;

-- Counts are exact at the end of every transaction: whoever changes them has the row locked.
CREATE TABLE subject (
    name         text PRIMARY KEY,
    active       bigint NOT NULL,
    working      bigint NOT NULL,
    last_run     uuid,
    last_at      bigint,
    last_state   smallint,
    last_outcome smallint,
    last_reason  smallint
) WITH (fillfactor = 50);

CREATE TABLE idempotency (
    namespace   text NOT NULL,
    key         text NOT NULL,
    body_hash   bytea NOT NULL,
    runs        bytea NOT NULL,
    at          bigint NOT NULL,
    PRIMARY KEY (namespace, key)
);

CREATE INDEX idempotency_at ON idempotency (at);

-- Who holds a serial key, who is first in line, and who claimed it last (a success after a loss is accepted only from that
-- one). Every change to a key's runs locks its row first.
CREATE TABLE serial_slot (
    slot        text PRIMARY KEY,
    holder      bigint,
    head        bigint,
    last_claimed bigint
) WITH (fillfactor = 50);

-- A run that took its business key from a leased one waits for the end of that lease.
CREATE TABLE key_wait (
    seq         bigint PRIMARY KEY,
    waits_for   bigint NOT NULL
);

CREATE INDEX key_wait_of ON key_wait (waits_for);

-- An attempt that closed without ending its run. The last one is derived from the run's row.
CREATE TABLE attempt (
    seq             bigint NOT NULL,
    epoch           bigint NOT NULL,
    worker          bigint NOT NULL,
    incarnation     bigint NOT NULL,
    claimed_at      bigint NOT NULL,
    started_at      bigint,
    last_heard_at   bigint NOT NULL,
    ended_at        bigint NOT NULL,
    marker          bigint NOT NULL,
    lost_marker     bigint NOT NULL,
    last_seq        bigint NOT NULL,
    outcome         smallint,
    reason          smallint NOT NULL,
    closed_by       smallint NOT NULL,
    exit            text,
    error           text,
    checkpoint      text,
    PRIMARY KEY (seq, epoch)
);

-- Events that rows of runs and attempts do not tell.
CREATE TABLE run_event (
    id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    seq         bigint NOT NULL,
    at          bigint NOT NULL,
    epoch       bigint NOT NULL,
    kind        smallint NOT NULL,
    state       smallint NOT NULL,
    reason      smallint,
    note        text
);

CREATE INDEX run_event_seq ON run_event (seq, id);

CREATE TABLE output (
    seq         bigint NOT NULL,
    "offset"    bigint NOT NULL,
    epoch       bigint NOT NULL,
    frame_seq   bigint NOT NULL,
    at          bigint NOT NULL,
    channel     text NOT NULL,
    bytes       bytea NOT NULL,
    PRIMARY KEY (seq, "offset")
);

CREATE TABLE output_gap (
    seq         bigint NOT NULL,
    first       bigint NOT NULL,
    last        bigint NOT NULL,
    bytes       bigint NOT NULL,
    why         text NOT NULL,
    PRIMARY KEY (seq, first)
);

CREATE SEQUENCE recovery_id;

-- Names are texts: a recovery outlives its run and its workers.
CREATE TABLE recovery (
    id              bigint PRIMARY KEY,
    namespace       text NOT NULL,
    run             uuid NOT NULL,
    queue           text NOT NULL,
    from_epoch      bigint NOT NULL,
    from_worker     text NOT NULL,
    from_incarnation bigint NOT NULL,
    to_epoch        bigint,
    to_worker       text,
    to_incarnation  bigint,
    last_heard_at   bigint NOT NULL,
    lost_at         bigint NOT NULL,
    queued_at       bigint,
    claimed_at      bigint,
    started_at      bigint,
    caught_up_at    bigint,
    fraction        double precision,
    evidence        smallint NOT NULL,
    reason          smallint NOT NULL,
    outcome         smallint NOT NULL,
    had_checkpoint  boolean NOT NULL
);

CREATE INDEX recovery_namespace ON recovery (namespace, id);
CREATE INDEX recovery_run ON recovery (run, id);

-- A worker name, its current incarnation, and that one's session.
CREATE TABLE worker (
    id              bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    namespace       text NOT NULL,
    name            text NOT NULL,
    profile         text NOT NULL,
    incarnation     bigint NOT NULL,
    instance        uuid NOT NULL,
    outbox_key      text NOT NULL,
    presence        bigint NOT NULL,
    version         text NOT NULL,
    host            text NOT NULL,
    pid             bigint NOT NULL,
    first_seen_at   bigint NOT NULL,
    registered_at   bigint NOT NULL,
    last_heard_at   bigint NOT NULL,
    draining        boolean NOT NULL,
    departed        boolean NOT NULL,
    session_open    boolean NOT NULL,
    replica         bigint NOT NULL,
    home_seq        bigint NOT NULL,
    -- Adoptions since a session opened, and the observed clock of the last time that gave a full TTL.
    rearmed         bigint NOT NULL DEFAULT 0,
    armed           bigint NOT NULL DEFAULT 0,
    losses          bigint NOT NULL,
    UNIQUE (namespace, name)
) WITH (fillfactor = 70);

CREATE INDEX worker_home ON worker (replica, id);

-- Names of deleted workers, for the histories that mention them.
CREATE TABLE worker_gone (
    id          bigint PRIMARY KEY,
    name        text NOT NULL,
    at          bigint NOT NULL
);

-- What a polling worker's request was given.
CREATE TABLE claim_request (
    worker      bigint NOT NULL,
    incarnation bigint NOT NULL,
    request     uuid NOT NULL,
    leases      bytea NOT NULL,
    at          bigint NOT NULL,
    PRIMARY KEY (worker, incarnation, request)
);

-- One row per batch: everything that happened in it. Its place is its transaction: rows become visible out of that order, so
-- readers stop at the oldest transaction that is open.
CREATE TABLE feed (
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    n           bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    at          bigint NOT NULL,
    body        text NOT NULL,
    PRIMARY KEY (xid, n)
);

-- What the home of a session is to do, until its replica has read it.
CREATE TABLE errand (
    id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    replica     bigint NOT NULL,
    at          bigint NOT NULL,
    body        text NOT NULL
);

CREATE INDEX errand_replica ON errand (replica, id);
