//! A real server on a free port, over its real interface.

mod polling;
mod restart;
mod runs;
mod safety;
mod sessions;
mod signals;
mod support;
