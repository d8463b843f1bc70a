-- Keys are locked before their runs, everywhere.
SELECT slot, holder, head, last_claimed FROM serial_slot
WHERE slot = ANY (ARRAY(SELECT slot FROM run WHERE id = ANY ($1) AND slot IS NOT NULL)) ORDER BY slot FOR UPDATE
