-- How far events are gone is known: who asks for what was before it is told.
WITH gone AS (
    DELETE FROM feed WHERE (xid, n) IN (SELECT xid, n FROM feed ORDER BY xid, n LIMIT $2) AND at < $1
    RETURNING xid
), fallen AS (
    UPDATE meta SET feed_floor = greatest(feed_floor, (SELECT max(xid)::text::bigint FROM gone))
    WHERE id = 1 AND EXISTS (SELECT FROM gone)
)
SELECT count(*) FROM gone
