UPDATE worker SET announced = ?2 WHERE id = ?1 AND announced IS NOT ?2
