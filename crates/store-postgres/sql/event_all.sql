SELECT kind, at, epoch, state, reason, note FROM run_event WHERE seq = $1 ORDER BY id
