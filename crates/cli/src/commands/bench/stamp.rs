//! `outlive bench stamp FILE [EVERY_MS [END]]`: the command of runs that stamp a file while they execute (hidden).
//!
//! Alone, it stamps once and waits to be killed. With `EVERY_MS` it goes on stamping. With `END` it also prints a line each half
//! second, and ends well once a file of that name is there. It is this binary, because it must be cheap: hundreds of them run
//! on a small machine.

use super::super::Done;
use crate::config;
use crate::exit::{Exit, Failure};
use outlive_api::clock::nanos;
use outlive_core::Epoch;
use outlive_core::stamps::Stamp;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

/// Between two lines, and between two looks for the end.
const LINE_NANOS: u64 = 500_000_000;

pub(crate) fn run(args: &[OsString]) -> Done {
    let usage = || Failure::usage("outlive bench stamp FILE [EVERY_MS [END]]");
    let (file, rest) = args.split_first().ok_or_else(usage)?;
    let epoch = config::variable("OUTLIVE_EPOCH").and_then(|e| e.parse().ok()).map_or(Epoch(0), Epoch);
    let mut file = std::fs::File::options().create(true).append(true).open(file)?;
    let mut stamp = || {
        let at = nanos();
        file.write_all(Stamp { epoch, pid: std::process::id(), at }.line().as_bytes()).map(|()| at)
    };
    let begun = stamp()?;
    let Some((every, end)) = rest.split_first() else {
        loop {
            std::thread::park();
        }
    };
    let every = every.to_str().and_then(|ms| ms.parse().ok()).map(Duration::from_millis).ok_or_else(usage)?;
    let (mut seq, mut printed) = (0, begun);
    loop {
        std::thread::sleep(every);
        let at = stamp()?;
        if let [end] = end
            && at - printed >= LINE_NANOS
        {
            (seq, printed) = (seq + 1, at);
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}.{seq}", epoch.0)?;
            if Path::new(end).exists() {
                return Ok(Exit::Ok);
            }
        }
    }
}
