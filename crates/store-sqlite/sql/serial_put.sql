INSERT INTO serial_slot (slot, holder, head, last_claimed) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (slot) DO UPDATE SET holder = excluded.holder, head = excluded.head, last_claimed = excluded.last_claimed
