UPDATE worker SET session_open = 0 WHERE session_open <> 0
