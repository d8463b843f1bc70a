UPDATE match_class SET active = ?2 WHERE id = ?1
