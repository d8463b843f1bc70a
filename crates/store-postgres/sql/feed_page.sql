SELECT xid::text::bigint, body FROM feed
WHERE xid >= $1::text::xid8 AND xid < $2::text::xid8
ORDER BY xid, n LIMIT $3
