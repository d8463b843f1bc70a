//! The event log: one line per thing that happened. The same seed gives the same bytes; a digest of them is always kept, the
//! lines themselves as far as somebody wants to read them.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

/// Lines that a failure shows.
const TAIL: usize = 120;

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    lines: VecDeque<String>,
    keep_all: bool,
    digest: u64,
}

impl Log {
    pub(crate) const fn new(keep_all: bool) -> Self {
        Self { lines: VecDeque::new(), keep_all, digest: 0xCBF2_9CE4_8422_2325 }
    }

    pub(crate) fn line(&mut self, now: u64, what: fmt::Arguments<'_>) {
        let mut line = if self.keep_all || self.lines.len() < TAIL {
            String::with_capacity(96)
        } else {
            let mut oldest = self.lines.pop_front().unwrap_or_default();
            oldest.clear();
            oldest
        };
        let _ = write!(line, "{now:>7} {what}");
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        self.lines.push_back(line);
    }

    /// FNV-1a over all lines.
    pub(crate) const fn digest(&self) -> u64 {
        self.digest
    }

    /// The lines that were kept.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
