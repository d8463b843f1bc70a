-- What a submission says of its own limits is held to the rules of `crates/core/src/possible.rs`: an application is told in its
-- transaction, since after it nobody could be.
CREATE FUNCTION milliseconds(said text) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT substring(said FROM '^[0-9.]+')::numeric * CASE substring(said FROM '[a-z]+$')
        WHEN 'ms' THEN 1 WHEN 's' THEN 1000 WHEN 'm' THEN 60000 WHEN 'h' THEN 3600000 ELSE 86400000 END
$$;

CREATE FUNCTION must_hold(holds boolean, field text, inequality text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF NOT holds THEN
        RAISE EXCEPTION 'outlive.submit: %: % must hold', field, inequality USING ERRCODE = 'invalid_parameter_value';
    END IF;
END $$;

CREATE FUNCTION submission_is_possible() RETURNS trigger LANGUAGE plpgsql SET search_path = outlive, pg_temp AS $$
DECLARE
    said CONSTANT jsonb := NEW.options::jsonb;
    backoff CONSTANT jsonb := coalesce(said -> 'backoff', '{}');
    a_year CONSTANT numeric := 366 * 86400000::numeric;
    -- What is not said, as `Backoff::default` has it.
    shortest CONSTANT numeric := coalesce(milliseconds(backoff ->> 'initial'), 1000);
    longest CONSTANT numeric := coalesce(milliseconds(backoff ->> 'max'), 300000);
    field text;
    value numeric;
BEGIN
    FOREACH field IN ARRAY ARRAY['run_timeout', 'progress_timeout', 'queue_ttl'] LOOP
        -- As it is stored: in whole milliseconds.
        value := trunc(milliseconds(said ->> field));
        PERFORM must_hold(coalesce(value > 0, true), field, field || ' > 0'),
            must_hold(coalesce(value <= a_year, true), field, field || ' <= 366d');
    END LOOP;
    PERFORM must_hold(
            coalesce(milliseconds(said ->> 'progress_timeout') <= milliseconds(said ->> 'run_timeout'), true),
            'progress_timeout', 'progress_timeout <= run_timeout'),
        must_hold(coalesce((backoff ->> 'factor')::numeric >= 1, true), 'backoff.factor', 'factor >= 1'),
        must_hold(coalesce((backoff ->> 'jitter')::numeric BETWEEN 0 AND 1, true), 'backoff.jitter', '0 <= jitter <= 1'),
        must_hold(shortest <= longest, 'backoff.initial', 'initial <= max'),
        must_hold(longest <= a_year, 'backoff.max', 'max <= 366d');
    RETURN NEW;
END $$;

CREATE TRIGGER submission_possible BEFORE INSERT ON submission FOR EACH ROW EXECUTE FUNCTION submission_is_possible();
