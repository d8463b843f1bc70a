-- The newest row stays, however old: the next one's number follows from it, and cursors must never see a number twice.
DELETE FROM feed
WHERE seq IN (SELECT seq FROM feed ORDER BY seq LIMIT ?2) AND at < ?1 AND seq < (SELECT max(seq) FROM feed)
