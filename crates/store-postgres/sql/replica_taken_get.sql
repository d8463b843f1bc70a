SELECT taken FROM replica WHERE id = $1
