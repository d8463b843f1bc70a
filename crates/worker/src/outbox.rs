//! The outbox: every terminal report, and the output that it needs, from before it is first sent until it is answered.
//!
//! A log of JSON lines: a record, or the answer to one. It is written without fsync, a batch at a time: it survives the agent,
//! not the host. A line that a crash has torn is skipped. When nothing is open the log is emptied; when most of it is answered
//! it is written anew.

use outlive_api::report::WireItem;
use outlive_core::limits::sizes;
use outlive_core::{Epoch, LeaseRef, RunId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The log may grow to this before it is emptied or written anew.
const COMPACT_AT: u64 = 1 << 20;

/// A terminal report and the frames before it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Whose end it is.
    pub lease: LeaseRef,
    /// In order; the last one is the end.
    pub items: Vec<WireItem>,
}

/// What happens to an outbox.
#[derive(Clone, Debug)]
pub enum Change {
    /// A report is about to be sent.
    Store(Box<Record>),
    /// It has been answered.
    Forget(LeaseRef),
}

#[derive(Serialize, Deserialize)]
struct Line {
    run_id: RunId,
    epoch: Epoch,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    items: Vec<WireItem>,
}

/// An open outbox.
#[derive(Debug)]
pub struct Outbox {
    path: PathBuf,
    file: File,
    length: u64,
    /// The lines of what is open, in the order in which they were written.
    open: BTreeMap<u64, String>,
    numbers: BTreeMap<LeaseRef, u64>,
    next: u64,
    open_bytes: u64,
    /// The last write failed.
    torn: bool,
}

impl Outbox {
    /// Opens a log; what is open in it, in order.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Record>)> {
        let text = match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        let file = File::options().create(true).append(true).open(path)?;
        let mut outbox = Self {
            path: path.to_owned(),
            file,
            length: u64::try_from(text.len()).unwrap_or(u64::MAX),
            open: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next: 0,
            open_bytes: 0,
            torn: false,
        };
        let mut records = BTreeMap::new();
        for line in text.lines() {
            let Ok(read) = serde_json::from_str::<Line>(line) else { continue };
            let lease = LeaseRef { run_id: read.run_id, epoch: read.epoch };
            if read.items.is_empty() {
                outbox.close(lease);
            } else {
                let number = outbox.keep(lease, format!("{line}\n"));
                records.insert(number, Record { lease, items: read.items });
            }
        }
        records.retain(|number, _| outbox.open.contains_key(number));
        outbox.rewrite()?;
        Ok((outbox, records.into_values().collect()))
    }

    /// Writes a batch, in one write. The leases whose reports may be sent now: all of them, since a report that does not fit
    /// is better sent without a copy than not at all.
    ///
    /// # Errors
    /// If the file cannot be written; the batch then has no copy.
    pub fn write(&mut self, batch: Vec<Change>) -> (Vec<LeaseRef>, io::Result<()>) {
        let (mut text, mut stored, mut full) = (String::new(), Vec::new(), false);
        for change in batch {
            match change {
                Change::Store(record) => {
                    let Record { lease, items } = *record;
                    stored.push(lease);
                    let line = encode(lease, items);
                    if self.open_bytes + line.len() as u64 > sizes::OUTBOX {
                        full = true;
                        continue;
                    }
                    text.push_str(&line);
                    self.keep(lease, line);
                }
                Change::Forget(lease) => {
                    if self.close(lease) {
                        text.push_str(&encode(lease, Vec::new()));
                    }
                }
            }
        }
        let written = self.append(&text);
        let full = full.then(|| io::Error::other(format!("it is full ({} bytes)", sizes::OUTBOX)));
        (stored, written.and(full.map_or(Ok(()), Err)))
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        self.length += text.len() as u64;
        if self.torn || self.length > COMPACT_AT && self.open_bytes < self.length / 2 {
            return self.rewrite();
        }
        let written = self.file.write_all(text.as_bytes());
        // Half a line may be there: what comes after it would be part of it.
        self.torn = written.is_err();
        written
    }

    fn keep(&mut self, lease: LeaseRef, line: String) -> u64 {
        self.close(lease);
        let number = self.next;
        self.next += 1;
        self.open_bytes += line.len() as u64;
        self.open.insert(number, line);
        self.numbers.insert(lease, number);
        number
    }

    fn close(&mut self, lease: LeaseRef) -> bool {
        let line = self.numbers.remove(&lease).and_then(|number| self.open.remove(&number));
        self.open_bytes -= line.as_ref().map_or(0, |line| line.len() as u64);
        line.is_some()
    }

    /// Writes what is open, and nothing else.
    fn rewrite(&mut self) -> io::Result<()> {
        if self.open.is_empty() {
            self.file.set_len(0)?;
        } else {
            let beside = self.path.with_extension("new");
            let mut file = File::options().create(true).write(true).truncate(true).open(&beside)?;
            let text: String = self.open.values().map(String::as_str).collect();
            file.write_all(text.as_bytes())?;
            fs::rename(&beside, &self.path)?;
            self.file = File::options().append(true).open(&self.path)?;
        }
        self.length = self.open_bytes;
        self.torn = false;
        Ok(())
    }
}

fn encode(lease: LeaseRef, items: Vec<WireItem>) -> String {
    let line = Line { run_id: lease.run_id, epoch: lease.epoch, items };
    // Items have texts as keys and no numbers that JSON lacks: this cannot fail.
    let mut text = serde_json::to_string(&line).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlive_api::report::OpName;
    use outlive_core::Wall;

    fn lease(n: u128) -> LeaseRef {
        LeaseRef { run_id: RunId::from_parts(Wall(1), n << 64), epoch: Epoch(1) }
    }

    fn record(n: u128) -> Change {
        let item = WireItem { note: Some("x".repeat(1_000)), ..WireItem::bare(OpName::Complete, Some(lease(n))) };
        Change::Store(Box::new(Record { lease: lease(n), items: vec![item] }))
    }

    fn open(path: &Path) -> (Outbox, Vec<LeaseRef>) {
        let (outbox, records) = Outbox::open(path).unwrap();
        (outbox, records.into_iter().map(|r| r.lease).collect())
    }

    #[test]
    fn what_is_not_answered_is_there_at_the_next_start_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let (mut outbox, found) = open(&path);
        assert!(found.is_empty());
        let (stored, written) = outbox.write(vec![record(3), record(1), record(2)]);
        assert_eq!((stored, written.is_ok()), (vec![lease(3), lease(1), lease(2)], true));
        outbox.write(vec![Change::Forget(lease(1))]).1.unwrap();
        drop(outbox);
        assert_eq!(open(&path).1, [lease(3), lease(2)]);
        assert_eq!(open(&path).1, [lease(3), lease(2)], "opening changes nothing");
    }

    #[test]
    fn after_a_full_disk_everything_open_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let (mut outbox, _) = Outbox::open(&path).unwrap();
        outbox.file = File::options().append(true).open("/dev/full").unwrap();
        assert!(outbox.write(vec![record(1)]).1.is_err());
        std::fs::write(&path, "{\"half a").unwrap();
        assert!(outbox.write(vec![record(2)]).1.is_ok());
        let (_, found) = Outbox::open(&path).unwrap();
        assert_eq!(found.iter().map(|r| r.lease).collect::<Vec<_>>(), [lease(1), lease(2)]);
    }

    #[test]
    fn a_torn_line_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        open(&path).0.write(vec![record(1), record(2)]).1.unwrap();
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 20]).unwrap();
        let (mut outbox, found) = open(&path);
        assert_eq!(found, [lease(1)]);
        outbox.write(vec![record(5)]).1.unwrap();
        assert_eq!(open(&path).1, [lease(1), lease(5)], "and does not spoil the line after it");
    }

    #[test]
    fn the_log_stays_small_when_all_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let (mut outbox, _) = open(&path);
        outbox.write(vec![record(9_999)]).1.unwrap();
        for n in 0..3_000 {
            outbox.write(vec![record(n)]).1.unwrap();
            outbox.write(vec![Change::Forget(lease(n))]).1.unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() <= COMPACT_AT);
        assert_eq!(open(&path).1, [lease(9_999)]);
    }

    #[test]
    fn a_report_that_does_not_fit_is_sent_without_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (mut outbox, _) = open(&folder.path().join("outbox"));
        outbox.open_bytes = sizes::OUTBOX;
        let (stored, written) = outbox.write(vec![record(1)]);
        assert_eq!(stored, [lease(1)]);
        assert!(written.unwrap_err().to_string().contains("full"));
    }
}
