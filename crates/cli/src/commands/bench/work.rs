//! `outlive bench work FILE SEED LINES EVERY_MS STAMP_MS FAILURES`: the command of runs that chaos checks (hidden).
//!
//! It prints lines of which every byte follows from the seed (`outlive_core::print`), saves a checkpoint now and then, goes on
//! where the last one was, fails as often as it is told to, and stamps and notes all that into a file of its run. Nobody's word
//! but its own is in that file.

use super::super::Done;
use crate::config::{self, Attempt};
use crate::exit::{Exit, Failure};
use outlive_api::clock::nanos;
use outlive_core::stamps::Stamp;
use outlive_core::{Epoch, print};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Lines between two checkpoints.
const SAVE_EACH: u64 = 4;

struct Work {
    file: PathBuf,
    seed: u64,
    lines: u64,
    every: Duration,
    stamp: Duration,
    failures: u64,
}

impl Work {
    fn of(args: &[OsString]) -> Option<Self> {
        let [file, numbers @ ..] = args else { return None };
        let numbers: Vec<u64> = numbers.iter().filter_map(|n| n.to_str()?.parse().ok()).collect();
        let [seed, lines, every, stamp, failures] = numbers[..] else { return None };
        let (every, stamp) = (Duration::from_millis(every), Duration::from_millis(stamp.max(1)));
        Some(Self { file: file.into(), seed, lines, every, stamp, failures })
    }
}

/// Appended to, so that no line of one attempt tears another's.
struct Book {
    file: File,
    epoch: Epoch,
}

impl Book {
    fn stamp(&mut self) -> std::io::Result<()> {
        let stamp = Stamp { epoch: self.epoch, pid: std::process::id(), at: nanos() };
        self.file.write_all(stamp.line().as_bytes())
    }

    fn note(&mut self, word: &str, number: &str) -> std::io::Result<()> {
        self.file.write_all(format!("{word} {}{number}\n", self.epoch.0).as_bytes())
    }
}

pub(crate) fn run(args: &[OsString]) -> Done {
    let usage = || Failure::usage("outlive bench work FILE SEED LINES EVERY_MS STAMP_MS FAILURES");
    let work = Work::of(args).ok_or_else(usage)?;
    let attempt = Attempt::of_this_process()?;
    let epoch = Epoch(attempt.epoch);
    let open = || File::options().create(true).append(true).open(&work.file);
    let mut book = Book { file: open()?, epoch };
    book.stamp()?;
    let saved = config::variable("OUTLIVE_CHECKPOINT_FILE").and_then(|file| std::fs::read_to_string(file).ok());
    let from: u64 = saved.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    book.note("from", &format!(" {from}"))?;
    let mut socket = UnixStream::connect(&attempt.socket)?;
    let answers = socket.try_clone()?;
    let mut heard = Book { file: open()?, epoch };
    std::thread::spawn(move || note_answers(answers, &mut heard));
    let failed: u64 = config::variable("OUTLIVE_ATTEMPT").and_then(|n| n.parse().ok()).map_or(0, |n: u64| n - 1);
    for seq in from + 1..=work.lines {
        let begun = nanos();
        while Duration::from_nanos(nanos() - begun) < work.every {
            std::thread::sleep(work.stamp.min(work.every));
            book.stamp()?;
        }
        let mut out = std::io::stdout().lock();
        out.write_all(&print::line(work.seed, epoch, seq))?;
        out.flush()?;
        if seq % SAVE_EACH == 0 {
            // Under its own number, so that an answer tells which checkpoint is stored.
            writeln!(socket, "{{\"ref\":{seq},\"op\":\"checkpoint\",\"data\":{seq}}}")?;
        }
        if failed < work.failures && seq >= work.lines / 2 {
            return Ok(Exit::Failed);
        }
    }
    book.note("done", "")?;
    Ok(Exit::Ok)
}

/// Notes checkpoints whose storing was acknowledged: `{"ref":8,"status":"ok"}`.
fn note_answers(answers: UnixStream, book: &mut Book) {
    for line in BufReader::new(answers).lines() {
        let Ok(line) = line else { return };
        let answer: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if answer["status"] == "ok"
            && let Some(seq) = answer["ref"].as_u64()
        {
            let _ = book.note("saved", &format!(" {seq}"));
        }
    }
}
