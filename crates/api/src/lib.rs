//! Wire types, codes, paths and the typed client.
