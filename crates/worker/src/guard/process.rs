//! The guard's own process: a loop over two file descriptors, without a runtime.

use super::protocol::{Command, Header, Reply};
use super::watch::{Act, Watch};
use crate::reach::Domain;
use outlive_api::clock::SystemClock;
use outlive_core::Mono;
use outlive_core::clock::Clock;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

/// Passes over `/proc` until one finds nothing new; a process that waits for a disk is not stopped before it has what it
/// waits for, and must not keep the guard from all others.
const FREEZE_PASSES: u32 = 10;

/// Runs the guard until its agent is gone. Called by the hidden command that the agent starts.
#[must_use]
pub fn guard_main() -> ExitCode {
    // Out of the agent's session: neither a terminal's signals nor those to the agent's group reach it.
    let _ = rustix::process::setsid();
    let mut guard = match GuardProcess::new() {
        Ok(guard) => guard,
        Err(e) => {
            eprintln!("the guard cannot start: {e}");
            return ExitCode::FAILURE;
        }
    };
    let ended = guard.watch(&SystemClock);
    if let Some(domain) = &guard.domain {
        domain.kill_everything();
    }
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct GuardProcess {
    domain: Option<Domain>,
    watch: Watch,
    timer: OwnedFd,
    /// What has been read of a line.
    incoming: Vec<u8>,
    /// What could not be written yet: a stopped agent does not read, and must not stop its guard.
    outgoing: Vec<u8>,
}

impl GuardProcess {
    fn new() -> io::Result<Self> {
        let stdout = io::stdout();
        fcntl_setfl(&stdout, fcntl_getfl(&stdout)? | OFlags::NONBLOCK)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        Ok(Self { domain: None, watch: Watch::default(), timer, incoming: Vec::new(), outgoing: Vec::new() })
    }

    /// Until stdin ends.
    fn watch(&mut self, clock: &dyn Clock) -> io::Result<()> {
        loop {
            self.arm(self.watch.next())?;
            let (stdin, stdout) = (io::stdin(), io::stdout());
            let wait_out = if self.outgoing.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let mut fds = [
                PollFd::new(&stdin, PollFlags::IN),
                PollFd::new(&self.timer, PollFlags::IN),
                PollFd::new(&stdout, wait_out),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            let readable = !fds[0].revents().is_empty();
            if readable && !self.read(stdin.as_fd())? {
                return Ok(());
            }
            self.act(clock.boot());
            self.write(stdout.as_fd());
        }
    }

    /// One read, and the lines in it. False: the end.
    fn read(&mut self, stdin: impl AsFd) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        let n = match rustix::io::read(stdin, &mut buffer) {
            Ok(0) => return Ok(false),
            Ok(n) => n,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(true),
            Err(e) => return Err(e.into()),
        };
        self.incoming.extend_from_slice(&buffer[..n]);
        while let Some(end) = self.incoming.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = self.incoming.drain(..=end).collect();
            self.line(String::from_utf8_lossy(&line).trim_end());
        }
        Ok(true)
    }

    fn line(&mut self, line: &str) {
        if let Some(Header(domain)) = Header::parse(line) {
            self.domain = Some(domain);
            self.tell(Reply::Ready);
        } else if let Some(command) = Command::parse(line) {
            self.watch.command(command);
        }
    }

    fn act(&mut self, now: Mono) {
        let Some(domain) = self.domain.clone() else { return };
        for act in self.watch.due(now) {
            match &act {
                Act::Freeze(new, again) => {
                    let all = new.iter().chain(again).map(|(&lease, &group)| (lease, group)).collect();
                    // A process that forked while the pass went by is found by the next one.
                    let _ = (0..FREEZE_PASSES).all(|_| domain.set_frozen(&all, true));
                }
                Act::Thaw(leases) => {
                    let _ = domain.set_frozen(leases, false);
                }
                Act::Kill(new, again) => {
                    let all: BTreeMap<_, _> = new.iter().chain(again).map(|(&lease, &group)| (lease, group)).collect();
                    // One pass: the rest of what is due does not wait for a process that does not die.
                    if !domain.kill_once(&all) {
                        self.watch.gone(all.into_keys());
                    }
                }
            }
            for (lease, event) in act.told() {
                self.tell(Reply::Did(lease, event, now));
            }
        }
    }

    fn tell(&mut self, reply: Reply) {
        self.outgoing.extend_from_slice(reply.to_string().as_bytes());
    }

    fn write(&mut self, stdout: impl AsFd) {
        if let Ok(n) = rustix::io::write(stdout, &self.outgoing) {
            self.outgoing.drain(..n);
        }
    }

    fn arm(&self, at: Option<Mono>) -> io::Result<()> {
        // A zero disarms it; a time that is over fires at once.
        let millis = at.map_or(0, |at| at.0.max(1));
        let seconds = i64::try_from(millis / 1_000).unwrap_or(i64::MAX);
        let nanos = i64::try_from(millis % 1_000 * 1_000_000).unwrap_or(0);
        let at = Timespec { tv_sec: seconds, tv_nsec: nanos };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}
