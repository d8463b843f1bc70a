//! What the commands of a test print and note. Every byte follows from a seed, so that whoever has the log knows each one
//! that must be in it, without a second copy of it; and what a command was told by its agent is in its own notes.
//!
//! ```text
//!   log     epoch.seq bytes…        notes    from EPOCH SEQ     what the attempt started from (its checkpoint)
//!                                            saved EPOCH SEQ    a checkpoint that was acknowledged
//!                                            done EPOCH         it printed everything and ends well
//! ```

use crate::ids::Epoch;
use std::collections::{BTreeMap, BTreeSet};

/// Most lines are short; each so-manieth is long.
const LONG_EACH: u64 = 16;
const SHORT: u64 = 120;
const LONG: u64 = 6_000;

/// One line, with its end. Of odd seeds it is rarely UTF-8.
#[must_use]
pub fn line(seed: u64, epoch: Epoch, seq: u64) -> Vec<u8> {
    let mut bytes = format!("{}.{seq} ", epoch.0).into_bytes();
    let mut state = mix(seed ^ mix(epoch.0.unsigned_abs()) ^ mix(seq << 32));
    let most = if state.is_multiple_of(LONG_EACH) { LONG } else { SHORT };
    for _ in 0..mix(state) % most {
        state = mix(state);
        let byte = state.to_le_bytes()[3];
        bytes.push(if seed.is_multiple_of(2) { b'a' + byte % 26 } else { byte });
    }
    // One end of line each, and it is the last byte.
    bytes.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = 0);
    bytes.push(b'\n');
    bytes
}

/// `SplitMix64`.
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What a command noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Of each attempt, the last line that it did not print because an earlier one had.
    pub from: BTreeMap<Epoch, u64>,
    /// Checkpoints that were acknowledged, in order.
    pub saved: Vec<(Epoch, u64)>,
    /// Attempts that printed everything and ended well.
    pub done: BTreeSet<Epoch>,
}

/// Reads notes; what else is in the file is passed over.
#[must_use]
pub fn notes(text: &str) -> Notes {
    let mut notes = Notes::default();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        let epoch = words.get(1).and_then(|word| word.parse().ok()).map(Epoch);
        match (words.first(), epoch, number(2)) {
            (Some(&"from"), Some(epoch), Some(seq)) => drop(notes.from.insert(epoch, seq)),
            (Some(&"saved"), Some(epoch), Some(seq)) => notes.saved.push((epoch, seq)),
            (Some(&"done"), Some(epoch), None) => drop(notes.done.insert(epoch)),
            _ => {}
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_same_each_time_and_another_for_another_seed_epoch_or_number() {
        let one = line(7, Epoch(1), 3);
        assert_eq!(one, line(7, Epoch(1), 3));
        for other in [line(8, Epoch(1), 3), line(7, Epoch(2), 3), line(7, Epoch(1), 4)] {
            assert_ne!(one[4..], other[4..]);
        }
    }

    #[test]
    fn a_line_has_one_end_and_odd_seeds_are_not_text() {
        for seq in 0..200 {
            for seed in [6, 7] {
                let line = line(seed, Epoch(1), seq);
                assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
            }
        }
        assert!((0..50).all(|seq| std::str::from_utf8(&line(6, Epoch(1), seq)).is_ok()));
        assert!((0..50).any(|seq| std::str::from_utf8(&line(7, Epoch(1), seq)).is_err()));
    }

    #[test]
    fn notes_are_found_between_stamps_and_a_torn_one_is_none() {
        let read = notes("from 1 0\n1 77 1000\nsaved 1 8\nfrom 2 8\ndone 2\nsaved 2 1");
        let expected =
            Notes { from: [(Epoch(1), 0), (Epoch(2), 8)].into(), saved: vec![(Epoch(1), 8)], done: [Epoch(2)].into() };
        assert_eq!(read, expected);
    }
}
