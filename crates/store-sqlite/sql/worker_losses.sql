UPDATE worker SET losses = losses + ?2 WHERE id = ?1
