-- Nobody holds anything of a restored store: what an earlier worker says of its last attempt is not heard.
UPDATE run SET epoch = epoch + ?1, worker = NULL, incarnation = NULL WHERE state < 6
