-- The observed clock at the claim, then at the start of the attempt: where run_timeout counts from over restarts.
ALTER TABLE run ADD COLUMN begun_observed INTEGER NOT NULL DEFAULT 0;
UPDATE run SET begun_observed = lease_observed WHERE state >= 3 AND state <= 5;

-- Why nobody took a run that expired.
ALTER TABLE run_detail ADD COLUMN reason_detail TEXT;

-- What waits for a time or a person, and what waits for its first claim: the second is asked why before it ends, so the two are
-- never in each other's way.
DROP INDEX run_due;
CREATE INDEX run_due     ON run (due_at) WHERE due_at IS NOT NULL AND state < 2;
CREATE INDEX run_overdue ON run (due_at) WHERE due_at IS NOT NULL AND state = 2;
