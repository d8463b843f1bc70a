SELECT checkpoint IS NOT NULL, progress FROM run_detail WHERE seq = ?1
