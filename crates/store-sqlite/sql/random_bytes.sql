SELECT randomblob(?1)
