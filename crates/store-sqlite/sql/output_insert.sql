INSERT INTO output (seq, offset, epoch, frame_seq, channel, at, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
