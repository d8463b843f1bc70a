SELECT namespace, incarnation, replica, home_seq, session_open, draining, departed FROM worker WHERE id = ?1
