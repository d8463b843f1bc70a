SELECT timeline FROM meta WHERE id = 1 FOR UPDATE
