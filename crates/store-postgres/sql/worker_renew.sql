UPDATE worker SET session_open = false WHERE session_open
