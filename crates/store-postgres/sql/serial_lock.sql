SELECT slot, holder, head, last_claimed FROM serial_slot WHERE slot = ANY ($1) ORDER BY slot FOR UPDATE
