INSERT INTO serial_slot (slot) SELECT unnest($1::text[]) ON CONFLICT (slot) DO NOTHING
