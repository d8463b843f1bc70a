//! The agent's side of the guard.

use super::protocol::{Header, Reply};
use crate::config::AgentError;
use crate::reach::Domain;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// How long a guard may take to say that it watches.
const READY_WITHIN: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// How to start a guard.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Its command line.
    pub command: Vec<String>,
    /// What it watches.
    pub domain: Domain,
}

/// A guard that watches.
#[derive(Debug)]
pub struct Started {
    /// Its process.
    pub child: Child,
    /// Commands; closing it is the agent's death, as far as the guard knows.
    pub stdin: ChildStdin,
    /// Replies.
    pub stdout: ChildStdout,
}

impl Guard {
    /// Starts one and waits until it watches.
    ///
    /// # Errors
    /// [`AgentError::Guard`].
    pub fn start(&self) -> Result<Started, AgentError> {
        self.try_start().map_err(|e| AgentError::Guard { command: self.command.clone(), detail: e.to_string() })
    }

    fn try_start(&self) -> io::Result<Started> {
        let (program, arguments) = self.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut child = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let greeted = stdin.write_all(Header(self.domain.clone()).to_string().as_bytes());
        if let Err(e) = greeted.and_then(|()| ready(&mut stdout)) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(e);
        }
        Ok(Started { child, stdin, stdout })
    }
}

fn ready(stdout: &mut ChildStdout) -> io::Result<()> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        if poll(&mut [PollFd::new(&*stdout, PollFlags::IN)], Some(&READY_WITHIN))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut byte = [0];
        stdout.read_exact(&mut byte)?;
        line.extend_from_slice(&byte);
    }
    let said = String::from_utf8_lossy(&line);
    match Reply::parse(said.trim_end()) {
        Some(Reply::Ready) => Ok(()),
        _ => Err(io::Error::other(format!("it said \"{}\" instead of ready", said.trim_end()))),
    }
}
