UPDATE serial_slot SET holder = u.holder, head = u.head, last_claimed = u.last_claimed
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS u (slot, holder, head, last_claimed)
WHERE serial_slot.slot = u.slot
