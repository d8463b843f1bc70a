SELECT seq FROM run WHERE queue = ?1 AND key = ?2 AND state < 6
