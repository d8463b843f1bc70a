SELECT DISTINCT q.policy FROM queue_count c JOIN queue q ON q.id = c.queue WHERE c.state < 6 AND c.n > 0
