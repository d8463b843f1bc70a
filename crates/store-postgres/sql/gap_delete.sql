DELETE FROM output_gap WHERE seq = ANY ($1)
