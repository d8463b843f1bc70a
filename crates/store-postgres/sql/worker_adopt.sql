UPDATE worker SET
    replica = $2, home_seq = home_seq + 1,
    armed = CASE WHEN rearmed < $3 THEN $4 ELSE armed END,
    rearmed = least(rearmed + 1, 100)
WHERE id = ANY ($1)
