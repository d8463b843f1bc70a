DELETE FROM serial_slot WHERE slot = $1
