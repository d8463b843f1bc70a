UPDATE meta SET catalog = catalog + 1 WHERE id = 1 RETURNING catalog
