//! Output as it comes: frames, without waiting for the ends of lines.
//!
//! The first bytes after a pause are passed on at once; what comes within [`GATHER`] after that is passed on together. So a
//! prompt is seen immediately, and a flood costs few frames. Bytes are never looked at: NUL and invalid UTF-8 survive.

use super::Sender;
use crate::agent::ChildEvent;
use outlive_core::LeaseRef;
use outlive_core::limits::sizes;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// How long small pieces are gathered after a frame.
const GATHER: Duration = Duration::from_millis(4);
/// What is still read of a pipe that others keep open after the command has ended: what it wrote is there already.
const AFTERMATH: usize = 1 << 20;

/// One read.
const PIECE: usize = 64 << 10;

/// Where bytes go.
pub(super) struct Sink {
    pub lease: LeaseRef,
    pub channel: &'static str,
    pub events: Sender,
    /// Whether the command has ended: nothing waits for the window any more.
    pub ended: watch::Receiver<bool>,
    /// Kept for a result instead of going to the log; none once there is too much of it.
    pub kept: Option<Vec<u8>>,
    /// There was too much of it.
    pub overflowed: bool,
}

impl Sink {
    async fn put(&mut self, bytes: Vec<u8>) {
        let Some(kept) = &mut self.kept else {
            self.log(bytes).await;
            return;
        };
        kept.extend_from_slice(&bytes);
        if kept.len() > sizes::RESULT {
            self.overflowed = true;
            self.give_up_result().await;
        }
    }

    /// What was kept for a result goes to the log after all.
    pub(super) async fn give_up_result(&mut self) {
        for frame in self.kept.take().unwrap_or_default().chunks(sizes::FRAME) {
            self.log(frame.to_vec()).await;
        }
    }

    async fn log(&mut self, bytes: Vec<u8>) {
        tokio::select! {
            () = self.events.within_window(bytes.len()) => {}
            _ = self.ended.wait_for(|&ended| ended) => {}
        }
        let channel = self.channel.to_owned();
        self.events.send(self.lease, ChildEvent::Output { channel, bytes }).await;
    }
}

/// Reads a pipe until its end, or, once the command has ended, until it is empty.
pub(super) async fn pump(pipe: &pipe::Receiver, sink: &mut Sink) {
    let mut ended = sink.ended.clone();
    let mut frame: Vec<u8> = Vec::new();
    let mut aftermath = 0;
    let mut gathering = false;
    let gathered = tokio::time::sleep(GATHER);
    tokio::pin!(gathered);
    loop {
        let over = *ended.borrow();
        let (read, closed) = fill(pipe, &mut frame);
        aftermath += if over { read } else { 0 };
        let last = closed || (over && (read == 0 || aftermath >= AFTERMATH));
        if !frame.is_empty() && (last || !gathering || frame.len() >= sizes::FRAME) {
            sink.put(std::mem::take(&mut frame)).await;
            gathered.set(tokio::time::sleep(GATHER));
            gathering = true;
        }
        if last {
            return;
        }
        if read > 0 || over {
            continue;
        }
        tokio::select! {
            _ = pipe.ready(Interest::READABLE) => {}
            () = &mut gathered, if gathering => gathering = false,
            _ = ended.wait_for(|&ended| ended) => {}
        }
    }
}

/// Takes what is there, up to a frame. How much, and whether it was the end.
fn fill(pipe: &pipe::Receiver, frame: &mut Vec<u8>) -> (usize, bool) {
    let before = frame.len();
    let room = (sizes::FRAME - before).min(PIECE);
    frame.resize(before + room, 0);
    let read = pipe.try_read(&mut frame[before..]);
    frame.truncate(before + read.as_ref().map_or(0, |&n| n));
    match read {
        Ok(n) => (n, n == 0 && room > 0),
        Err(e) => (0, e.kind() != std::io::ErrorKind::WouldBlock),
    }
}
