-- Runs that applications enqueue in their own transactions. `outlive.submit` checks what can be checked and leaves a row here; a
-- replica makes the run of it, by the same rules as for a request over HTTP. An application's transaction may be long, so it
-- holds nothing that a replica would wait for.
CREATE TABLE submission (
    n           bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    id          uuid NOT NULL UNIQUE,
    namespace   text NOT NULL,
    kind        text NOT NULL,
    input       text NOT NULL,
    options     text NOT NULL
);

CREATE FUNCTION check_name(field text, value text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF value IS NULL OR char_length(value) NOT BETWEEN 1 AND 200 OR value ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'outlive.submit: % must have 1 to 200 characters and no control characters', field
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END $$;

-- A UUID of version 7: the time first, so that new rows are neighbours.
CREATE FUNCTION new_run_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
            52, 1), 53, 1), 'hex')::uuid
$$;

CREATE FUNCTION submit(kind text, input jsonb DEFAULT 'null', options jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = outlive, pg_temp AS $$
DECLARE
    known CONSTANT text[] := ARRAY['id', 'namespace', 'queue', 'priority', 'run_at', 'hold', 'key', 'on_conflict',
        'serial_key', 'subjects', 'parent', 'requires', 'pin', 'max_attempts', 'max_losses', 'backoff', 'run_timeout',
        'progress_timeout', 'queue_ttl', 'tags'];
    asked jsonb := coalesce(options, '{}');
    space text;
    lane text;
    run uuid;
    field text;
    value jsonb;
    entry record;
    owner uuid;
BEGIN
    IF jsonb_typeof(asked) <> 'object' THEN
        RAISE EXCEPTION 'outlive.submit: options must be an object' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR field, value IN SELECT * FROM jsonb_each(asked) LOOP
        IF field <> ALL (known) THEN
            RAISE EXCEPTION 'outlive.submit: unknown option %', field
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Known are ' || array_to_string(known, ', ') || '.';
        END IF;
        IF jsonb_typeof(value) = 'null' THEN
            asked := asked - field;
        ELSIF field IN ('namespace', 'queue', 'key', 'serial_key', 'pin') THEN
            PERFORM check_name(field, CASE WHEN jsonb_typeof(value) = 'string' THEN asked ->> field END);
        ELSIF field IN ('requires', 'tags') THEN
            IF jsonb_typeof(value) <> 'object' OR (SELECT count(*) FROM jsonb_object_keys(value)) > 32 THEN
                RAISE EXCEPTION 'outlive.submit: % must be an object of at most 32 texts', field
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            FOR entry IN SELECT e.key, CASE WHEN jsonb_typeof(e.value) = 'string' THEN e.value #>> '{}' END AS text
                FROM jsonb_each(value) e
            LOOP
                PERFORM check_name(field, entry.key), check_name(field, entry.text);
            END LOOP;
        ELSIF field = 'subjects' THEN
            IF jsonb_typeof(value) <> 'array' OR jsonb_array_length(value) > 4 THEN
                RAISE EXCEPTION 'outlive.submit: subjects must be a list of at most 4 texts'
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            PERFORM check_name(field, CASE WHEN jsonb_typeof(e) = 'string' THEN e #>> '{}' END)
            FROM jsonb_array_elements(value) e;
        ELSIF field IN ('run_timeout', 'progress_timeout', 'queue_ttl') THEN
            IF jsonb_typeof(value) <> 'string' OR value #>> '{}' !~ '^\d{1,12}(\.\d{1,9})?(ms|s|m|h|d)$' THEN
                RAISE EXCEPTION 'outlive.submit: % must be a number and a unit: 500ms, 10s, 5m, 2h or 7d', field
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
        ELSIF field IN ('max_attempts', 'max_losses') THEN
            IF jsonb_typeof(value) <> 'number' OR value #>> '{}' !~ '^[1-9]\d{0,8}$' THEN
                RAISE EXCEPTION 'outlive.submit: % must be a whole number of at least 1', field
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
        ELSIF field = 'priority' THEN
            IF jsonb_typeof(value) <> 'number' OR value #>> '{}' !~ '^-?\d{1,3}$' OR (asked ->> field)::int NOT BETWEEN -100 AND 100 THEN
                RAISE EXCEPTION 'outlive.submit: priority must be between -100 and 100'
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
        ELSIF field = 'hold' THEN
            IF jsonb_typeof(value) <> 'boolean' THEN
                RAISE EXCEPTION 'outlive.submit: hold must be true or false' USING ERRCODE = 'invalid_parameter_value';
            END IF;
        ELSIF field = 'on_conflict' THEN
            IF value NOT IN ('"reject"', '"return"', '"replace"') THEN
                RAISE EXCEPTION 'outlive.submit: on_conflict must be reject, return or replace'
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
        ELSIF field = 'backoff' THEN
            IF jsonb_typeof(value) <> 'object' OR EXISTS (
                SELECT FROM jsonb_each(value) e WHERE CASE e.key
                    WHEN 'initial' THEN jsonb_typeof(e.value) <> 'string' OR e.value #>> '{}' !~ '^\d{1,12}(\.\d{1,9})?(ms|s|m|h|d)$'
                    WHEN 'max' THEN jsonb_typeof(e.value) <> 'string' OR e.value #>> '{}' !~ '^\d{1,12}(\.\d{1,9})?(ms|s|m|h|d)$'
                    WHEN 'factor' THEN jsonb_typeof(e.value) <> 'number'
                    WHEN 'jitter' THEN jsonb_typeof(e.value) <> 'number'
                    ELSE true END)
            THEN
                RAISE EXCEPTION 'outlive.submit: backoff has initial, factor, max and jitter'
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
        ELSIF field = 'run_at' THEN
            -- As milliseconds; what is no time is refused by the cast.
            asked := jsonb_set(asked, '{run_at}', to_jsonb((extract(epoch FROM (asked ->> field)::timestamptz) * 1000)::bigint));
        END IF;
    END LOOP;
    PERFORM check_name('kind', kind);
    IF octet_length(coalesce(input, 'null')::text) > 1048576 THEN
        RAISE EXCEPTION 'outlive.submit: input is larger than 1048576 bytes' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    IF kind = 'exec' AND (jsonb_typeof(input -> 'command') IS DISTINCT FROM 'array'
        OR coalesce(input #>> '{command,0}', '') = ''
        OR EXISTS (SELECT FROM jsonb_array_elements(input -> 'command') part WHERE jsonb_typeof(part) <> 'string'))
    THEN
        RAISE EXCEPTION 'outlive.submit: input.command must be a list of texts that begins with a program'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    space := coalesce(asked ->> 'namespace', 'default');
    lane := coalesce(asked ->> 'queue', 'default');
    run := coalesce((asked ->> 'id')::uuid, new_run_id());
    IF substr(run::text, 15, 1) <> '7' THEN
        RAISE EXCEPTION 'outlive.submit: id must be a UUID of version 7' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF asked ? 'parent' AND NOT EXISTS (SELECT FROM run r WHERE r.id = (asked ->> 'parent')::uuid)
        AND NOT EXISTS (SELECT FROM submission s WHERE s.id = (asked ->> 'parent')::uuid)
    THEN
        RAISE EXCEPTION 'outlive.submit: the parent % does not exist', asked ->> 'parent' USING ERRCODE = 'foreign_key_violation';
    END IF;
    IF asked ? 'key' AND coalesce(asked ->> 'on_conflict', 'reject') <> 'replace' THEN
        -- Whoever submits the same key at the same time does so after this transaction, and sees what it did.
        PERFORM pg_advisory_xact_lock(hashtextextended(space || E'\x1f' || lane || E'\x1f' || (asked ->> 'key'), 7810769));
        SELECT o.id INTO owner FROM (
            SELECT r.id FROM run r JOIN queue q ON q.id = r.queue
            WHERE q.namespace = space AND q.name = lane AND r.key = asked ->> 'key' AND r.key IS NOT NULL AND r.state < 6
            UNION ALL
            SELECT s.id FROM submission s WHERE s.namespace = space
                AND s.options::jsonb ->> 'key' = asked ->> 'key' AND coalesce(s.options::jsonb ->> 'queue', 'default') = lane
        ) o LIMIT 1;
        IF owner IS NOT NULL AND asked ->> 'on_conflict' = 'return' THEN
            RETURN owner;
        ELSIF owner IS NOT NULL THEN
            RAISE EXCEPTION 'outlive.submit: key "%" is taken by the active run %', asked ->> 'key', owner
                USING ERRCODE = 'unique_violation', HINT = 'options.on_conflict: return or replace';
        END IF;
    END IF;
    INSERT INTO submission (id, namespace, kind, input, options)
    VALUES (run, space, kind, coalesce(input, 'null')::text, (asked - 'id' - 'namespace')::text)
    ON CONFLICT (id) DO NOTHING;
    RETURN run;
END $$;
