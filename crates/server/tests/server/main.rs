//! A real server on a free port, over its real interface.

mod polling;
mod runs;
mod safety;
mod sessions;
mod support;
