SELECT slot, last_claimed FROM serial_slot
WHERE slot > $1 AND holder IS NULL AND head IS NULL ORDER BY slot LIMIT $2
