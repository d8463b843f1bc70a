//! Room on the disk: whether new runs are admitted.
//!
//! A full disk would refuse everything, reports of work that is done included. So below a mark only what *adds* work is
//! refused; what is left of the disk belongs to reports, cancels, claims and deletions. Two marks, so that a disk that stands at
//! the mark does not make the answer flicker:
//!
//! ```text
//!   free ─────────── reopen = mark + mark/8 ─────────── mark ─────────── 0
//!        admits                     as before                  refuses
//! ```

/// Share of the mark that must be free on top of it before new runs are admitted again: one part in this many.
const REOPEN_SHARE: u64 = 8;

/// What is known of the disk. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Below this much free space no new run is admitted; 0: never refuses.
    pub mark: u64,
    /// Free for this process at the last look.
    pub free: u64,
    /// Whether new runs are admitted.
    pub admits: bool,
}

impl Room {
    /// Before the first look: new runs are admitted.
    #[must_use]
    pub const fn unknown(mark: u64) -> Self {
        Self { mark, free: u64::MAX, admits: true }
    }

    /// From how much free space on new runs are admitted again.
    #[must_use]
    pub const fn reopen(self) -> u64 {
        self.mark.saturating_add(self.mark / REOPEN_SHARE)
    }

    /// After a look at the disk.
    #[must_use]
    pub const fn look(self, free: u64) -> Self {
        let admits = if self.admits { free >= self.mark } else { free >= self.reopen() };
        Self { free, admits, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_the_mark_nothing_new_is_admitted_until_there_is_more_than_the_mark() {
        let mut room = Room::unknown(800);
        let mut seen = Vec::new();
        for free in [900, 800, 799, 800, 899, 900, 800, 0] {
            room = room.look(free);
            seen.push(room.admits);
        }
        assert_eq!(seen, [true, true, false, false, false, true, true, false]);
    }

    #[test]
    fn without_a_mark_everything_is_admitted() {
        assert!(Room::unknown(0).look(0).admits);
    }

    #[test]
    fn the_largest_mark_is_one_that_is_never_reached() {
        let room = Room::unknown(u64::MAX).look(u64::MAX - 1);
        assert!(!room.admits && !room.look(u64::MAX - 1).admits);
    }
}
