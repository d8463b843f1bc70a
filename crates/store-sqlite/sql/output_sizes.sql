SELECT offset, length(bytes) FROM output WHERE seq = ?1 AND offset > ?2 ORDER BY offset
