SELECT input, options FROM run_input WHERE seq = $1
