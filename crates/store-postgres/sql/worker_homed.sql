SELECT id, incarnation, home_seq FROM worker WHERE replica = $1 AND session_open ORDER BY id
