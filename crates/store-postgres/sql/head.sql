-- Begins every transaction: where names are looked for, plans that do not depend on statistics (the test of plans sees the
-- same ones), limits for whoever stops in the middle; and what this replica must know.
SELECT
    set_config('search_path', 'outlive', true), set_config('jit', 'off', true),
    set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true), set_config('enable_material', 'off', true),
    set_config('lock_timeout', '5s', true),
    set_config('idle_in_transaction_session_timeout', '10s', true),
    observed, catalog, timeline, (extract(epoch FROM clock_timestamp()) * 1000)::bigint
FROM outlive.meta WHERE id = 1
