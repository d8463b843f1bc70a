//! By what means things are done to real processes. Each leaves nothing behind when it is dropped.
//!
//! | module | what |
//! |---|---|
//! | [`clock`] | a wall clock that jumps (libfaketime), for processes that are started with it |
//! | [`namespace`] | a host of its own, whose network can be set down |
//! | [`sockets`] | cuts the connections of a process, without its help |
//! | [`share`] | a process that gets a twentieth of a core |
//! | [`writelock`] | a store in which nobody else can commit |

pub(super) mod clock;
pub(super) mod namespace;
pub(super) mod share;
pub(super) mod sockets;
pub(super) mod writelock;
