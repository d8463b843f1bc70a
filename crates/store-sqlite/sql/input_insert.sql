INSERT INTO run_input (seq, input, options, parent) VALUES (?1, ?2, ?3, ?4)
