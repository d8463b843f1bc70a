INSERT INTO output_gap (seq, first, last, bytes, why) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (seq, first) DO UPDATE SET last = excluded.last, bytes = excluded.bytes, why = excluded.why
