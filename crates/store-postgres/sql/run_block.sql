UPDATE run SET blocked = true WHERE seq = ANY ($1) AND state + 0 = 2 AND NOT blocked RETURNING seq, class, rank, slot
