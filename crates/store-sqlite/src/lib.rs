//! The store contract on SQLite, with group commit.
