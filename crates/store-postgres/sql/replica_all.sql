SELECT id, beat, sessions, silent, closed, notes, name, address, started_at, wrote_at, taken FROM replica ORDER BY id
