SELECT first, last, bytes FROM output_gap WHERE seq = $1 AND why = 'limit'
