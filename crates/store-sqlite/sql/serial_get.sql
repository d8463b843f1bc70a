SELECT holder, head, last_claimed FROM serial_slot WHERE slot = ?1
