DELETE FROM output_gap WHERE seq = ?1
