-- Nothing of the queue is claimed before: in another history of the database its runs may be at work, under leases that only
-- their workers know of.
ALTER TABLE queue ADD COLUMN quiet_until bigint NOT NULL DEFAULT 0;
