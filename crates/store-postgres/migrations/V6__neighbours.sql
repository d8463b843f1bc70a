-- The oldest schema whose builds go on working on this one: said by the build that made it. A version that only widens the
-- schema lets the version before it work beside it, and start again there.
ALTER TABLE schema_history ADD COLUMN least bigint;
