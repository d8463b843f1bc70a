-- What may be read ends at the oldest transaction that is open: which of those before it will be there is decided.
SELECT
    (SELECT feed_floor FROM meta WHERE id = 1),
    (SELECT xid::text::bigint FROM feed WHERE xid < h.xid ORDER BY xid DESC LIMIT 1),
    EXISTS (SELECT FROM feed WHERE xid >= h.xid),
    h.xid::text::bigint
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xid) h
