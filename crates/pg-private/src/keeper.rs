//! A child that ends with this process, however that ends.
//!
//! The kernel's death signal comes when the *thread* that started a child is gone, so each child has a thread that starts
//! it and then waits to be told to end it.

use crate::Failure;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::process::{Child, Command};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// A running child.
#[derive(Debug)]
pub(crate) struct Keeper {
    pid: Pid,
    end: Option<SyncSender<Signal>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(crate) fn start(mut command: Command) -> Result<Self, Failure> {
        let (tell, started) = sync_channel(1);
        let (end, ended) = sync_channel::<Signal>(1);
        let keep = move || {
            let mut child: Child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return drop(tell.send(Err(format!("setpriv cannot be run: {error}")))),
            };
            let pid = Pid::from_child(&child);
            let _ = tell.send(Ok(pid));
            let signal = ended.recv().unwrap_or(Signal::INT);
            let _ = kill_process(pid, signal);
            let _ = child.wait();
        };
        let thread = std::thread::Builder::new().name("keeper".to_owned()).spawn(keep);
        let thread = thread.map_err(|error| format!("no thread for a child: {error}"))?;
        let pid = started.recv().unwrap_or_else(|_| Err("the thread of a child ended".to_owned()))?;
        Ok(Self { pid, end: Some(end), thread: Some(thread) })
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid), look), Ok(None))
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, signal: Signal) {
        if let Some(end) = self.end.take() {
            let _ = end.send(signal);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end(Signal::INT);
    }
}
