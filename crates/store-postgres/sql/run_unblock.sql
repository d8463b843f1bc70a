UPDATE run SET blocked = false WHERE seq = ANY ($1) AND state + 0 = 2 AND blocked RETURNING seq, class, rank, slot
