INSERT INTO meta (id, generation, secret, observed) VALUES (1, ?1, ?2, 0)
