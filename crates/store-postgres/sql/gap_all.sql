SELECT first, last, why FROM output_gap WHERE seq = $1 AND last > $2 ORDER BY first
