SELECT slot FROM serial_slot WHERE slot > $1 ORDER BY slot LIMIT $2
