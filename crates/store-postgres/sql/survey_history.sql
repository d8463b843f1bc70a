SELECT generation, timeline FROM outlive.meta WHERE id = 1
