UPDATE replica SET taken = taken + 1 WHERE id = $1 AND beat = $2
