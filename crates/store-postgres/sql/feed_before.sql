SELECT xid::text::bigint FROM feed WHERE xid < $1::text::xid8 ORDER BY xid DESC, n DESC LIMIT 1 OFFSET $2
