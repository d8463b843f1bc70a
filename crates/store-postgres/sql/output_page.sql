SELECT "offset", epoch, frame_seq, channel, at, bytes FROM output
WHERE seq = $1 AND "offset" > $2 AND ($3::text IS NULL OR channel = $3)
ORDER BY "offset" LIMIT $4
