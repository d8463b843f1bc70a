//! Where the rows say that a worker is at home, beside where the engine of a replica has it. Who is right, and what follows.
//!
//! The row is right, always: claims and verdicts are guarded by it. It and the engine differ
//!
//! - for a moment, while what a transaction did is on its way to the engine: then the engine knows less than the row, or the row
//!   was read before what the engine knows;
//! - after a guard that did not hold: the row is another than the engine thinks, for whatever reason;
//! - for ever, when nobody is on the way to tell it: whoever asked for a session went away, its answer was lost, its server died.
//!   Two openings of one worker may be committed in the other order than it asked for them; so it may be connected to one replica,
//!   which confirms its beats, while the store has it at another, which has never heard of it. The audit finds that, by level.

use crate::{Holder, HomeSeq, Incarnation, ReplicaId};

/// A worker's row, as far as it is about its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HomeRow {
    /// The newest start of its name.
    pub incarnation: Incarnation,
    /// It said goodbye.
    pub left: bool,
    /// Its session is open.
    pub open: bool,
    /// Whose home it is.
    pub replica: ReplicaId,
    /// Which of its sessions.
    pub home_seq: HomeSeq,
}

/// What the engine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Has {
    /// No session of that worker.
    Nothing,
    /// This one.
    Session(HomeSeq),
    /// This one, and the store refused what was guarded by it.
    Refused(HomeSeq),
}

/// What follows for the engine of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Homing {
    /// Nothing: they agree, or the engine knows what is newer than the row that was read.
    Stay,
    /// Another start has the name, or it said goodbye: the old session is told to go, and what it holds is revoked.
    Gone,
    /// Its home is elsewhere, under this number or a later one; so is a row that no session of this home can have: its worker is to
    /// open another.
    Moved(HomeSeq),
    /// Its home is here: the session is taken as the store has it, with a full TTL, unless its connection is here by now.
    Take,
}

impl HomeRow {
    /// What follows from this row at a replica.
    #[must_use]
    pub fn at(&self, me: ReplicaId, holder: Holder, has: Has) -> Homing {
        let is_current = self.incarnation == holder.incarnation && !self.left;
        let is_mine = self.open && self.replica == me;
        match has {
            // A replaced session that the store was not asked about ends in its own way: by its connection's end, or by silence.
            Has::Nothing | Has::Session(_) if !is_current => Homing::Stay,
            Has::Refused(_) if !is_current => Homing::Gone,
            Has::Nothing if is_mine => Homing::Take,
            Has::Nothing => Homing::Stay,
            Has::Session(known) if self.home_seq <= known => Homing::Stay,
            Has::Session(known) | Has::Refused(known) => {
                if is_mine && self.home_seq >= known {
                    Homing::Take
                } else {
                    Homing::Moved(self.home_seq.max(HomeSeq(known.0 + 1)))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkerId;

    const ME: ReplicaId = ReplicaId(1);
    const OTHER: ReplicaId = ReplicaId(2);
    const HOLDER: Holder = Holder { worker: WorkerId(7), incarnation: Incarnation(3) };
    const ROW: HomeRow =
        HomeRow { incarnation: HOLDER.incarnation, left: false, open: true, replica: ME, home_seq: HomeSeq(5) };

    fn at(row: HomeRow, has: Has) -> Homing {
        row.at(ME, HOLDER, has)
    }

    #[test]
    fn by_level_only_what_the_row_knows_better_is_followed() {
        let session = |n| Has::Session(HomeSeq(n));
        assert_eq!(at(ROW, Has::Nothing), Homing::Take, "nobody on the way told this replica that it is the home");
        assert_eq!(at(ROW, session(4)), Homing::Take);
        assert_eq!(at(ROW, session(5)), Homing::Stay);
        assert_eq!(at(ROW, session(6)), Homing::Stay, "the row was read before");
        let elsewhere = HomeRow { replica: OTHER, ..ROW };
        assert_eq!(at(elsewhere, Has::Nothing), Homing::Stay);
        assert_eq!(at(elsewhere, session(4)), Homing::Moved(HomeSeq(5)));
        assert_eq!(at(elsewhere, session(6)), Homing::Stay, "the row was read before");
        let closed = HomeRow { open: false, ..ROW };
        assert_eq!(at(closed, Has::Nothing), Homing::Stay);
        assert_eq!(at(closed, session(5)), Homing::Stay, "the news of its end is on the way");
        for gone in [HomeRow { incarnation: Incarnation(4), ..ROW }, HomeRow { left: true, ..ROW }] {
            assert_eq!((at(gone, Has::Nothing), at(gone, session(4))), (Homing::Stay, Homing::Stay));
        }
    }

    #[test]
    fn after_a_refusal_the_session_is_another_s_or_another() {
        let refused = |n| Has::Refused(HomeSeq(n));
        assert_eq!(at(ROW, refused(4)), Homing::Take, "a connection that opened meanwhile, or never came about");
        assert_eq!(at(ROW, refused(5)), Homing::Take);
        assert_eq!(at(ROW, refused(6)), Homing::Moved(HomeSeq(7)), "no session of this home can have such a row");
        assert_eq!(at(HomeRow { replica: OTHER, ..ROW }, refused(4)), Homing::Moved(HomeSeq(5)));
        assert_eq!(at(HomeRow { replica: OTHER, ..ROW }, refused(5)), Homing::Moved(HomeSeq(6)));
        assert_eq!(at(HomeRow { open: false, ..ROW }, refused(5)), Homing::Moved(HomeSeq(6)));
        for gone in [HomeRow { incarnation: Incarnation(4), ..ROW }, HomeRow { left: true, ..ROW }] {
            assert_eq!(at(gone, refused(5)), Homing::Gone);
        }
    }
}
