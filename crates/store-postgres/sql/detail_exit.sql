SELECT exit FROM run_detail WHERE seq = $1
