//! The socket between an attempt and its agent: JSON lines, up and down.
//!
//! ```text
//!   up    {"ref":1,"op":"checkpoint","data":{"i":4}}       down   {"ref":1,"status":"ok"}
//!                                                                 {"type":"cancel","reason":"cancelled"}
//! ```
//!
//! Any process of the attempt may connect, several at once. An answer goes to the connection that asked; a checkpoint is
//! answered when the server has it. `cancel` and `drain` are levels: who connects later is told too.
//!
//! A signal goes to every connection that is open when it comes. It is also kept, so that scripts need no open connection:
//! `{"ref":2,"op":"signal","name":"approve"}` takes the oldest one of that name (of any name, if none is given) and is
//! answered `{"ref":2,"status":"ok","name":"approve","data":…}` as soon as there is one. Each is taken once.

mod signals;

use crate::agent::ChildEvent;
use crate::runtime::Sender;
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_core::limits::sizes;
use outlive_core::report::Op;
use outlive_core::{Json, LeaseRef, Reason};
use serde::{Deserialize, Serialize};
use signals::{Asked, Signals};
use std::collections::BTreeMap;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// A line: a frame as base64, and what stands around it.
const LINE: usize = sizes::FRAME * 4 / 3 + (64 << 10);
/// Connections of one attempt at once.
const CONNECTIONS: usize = 32;
/// Lines that wait for a connection that does not read; then it is dropped.
const BACKLOG: usize = 64;
/// Statements of one attempt that wait for the server's answer; more are not read.
pub(crate) const ASKED: usize = 64;

/// What the agent says to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// To what it said.
    Answer {
        /// Under which number.
        reference: u64,
        /// What.
        result: WireResult,
    },
    /// Somebody asked for its end; TERM follows.
    Cancel {
        /// Why.
        reason: Reason,
    },
    /// A message.
    Signal {
        /// Its name.
        name: String,
        /// Its content.
        data: Json,
    },
    /// The agent, or the server, wants to be rid of it: a good moment to save and release.
    Drain,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Order<'a> {
    Cancel { reason: Reason },
    Signal { name: &'a str, data: &'a Json },
    Drain,
}

#[derive(Serialize)]
struct Answer<'a> {
    r#ref: u64,
    #[serde(flatten)]
    result: &'a WireResult,
}

#[derive(Deserialize)]
struct Reference {
    r#ref: Option<u64>,
}

/// The agent's end of one attempt's channel.
pub(crate) struct Channel {
    lease: LeaseRef,
    listener: UnixListener,
    events: Sender,
    connections: BTreeMap<u64, mpsc::Sender<String>>,
    next_connection: u64,
    /// Who asked, and under which number, by the number under which the agent was asked.
    asked: BTreeMap<u64, (u64, Option<u64>)>,
    next_reference: u64,
    levels: Vec<String>,
    signals: Signals,
}

impl Channel {
    pub(crate) fn new(lease: LeaseRef, listener: UnixListener, events: Sender) -> Self {
        Self {
            lease,
            listener,
            events,
            connections: BTreeMap::new(),
            next_connection: 0,
            asked: BTreeMap::new(),
            next_reference: 0,
            levels: Vec::new(),
            signals: Signals::default(),
        }
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(mut self, mut down: mpsc::Receiver<Down>) {
        let (up, mut lines) = mpsc::channel(BACKLOG);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.connect(stream, up.clone()),
                    // Out of descriptors, most likely: the next close helps.
                    Err(_) => tokio::task::yield_now().await,
                },
                Some((connection, line)) = lines.recv(), if self.asked.len() < ASKED => match line {
                    Some(line) => self.line(connection, &line).await,
                    None => self.disconnect(connection),
                },
                Some(message) = down.recv() => self.down(&message),
            }
        }
    }

    fn connect(&mut self, stream: UnixStream, up: mpsc::Sender<(u64, Option<String>)>) {
        if self.connections.len() >= CONNECTIONS {
            return;
        }
        let connection = self.next_connection;
        self.next_connection += 1;
        let (read, write) = stream.into_split();
        let (lines, waiting) = mpsc::channel(BACKLOG);
        tokio::spawn(read_lines(connection, read, up));
        tokio::spawn(write_lines(write, waiting));
        for line in &self.levels {
            let _ = lines.try_send(line.clone());
        }
        self.connections.insert(connection, lines);
    }

    fn disconnect(&mut self, connection: u64) {
        self.connections.remove(&connection);
        self.signals.forget(connection);
    }

    async fn line(&mut self, connection: u64, line: &str) {
        if !self.connections.contains_key(&connection) {
            return; // dropped, because it did not read: it would not read an answer either
        }
        let reference = serde_json::from_str::<Reference>(line).ok().and_then(|r| r.r#ref);
        if let Some(asked) = Asked::parse(connection, line) {
            match self.signals.ask(asked) {
                Ok(Some((connection, line))) => self.write(connection, line),
                Ok(None) => {}
                Err(detail) => self.answer(connection, reference, &WireResult::Invalid { detail }),
            }
            return;
        }
        let op = match parse(self.lease, line) {
            Ok(op) => op,
            Err(detail) => {
                let result = WireResult::Invalid { detail };
                self.answer(connection, reference, &result);
                return;
            }
        };
        if let Op::Output(frame) = op {
            self.events.within_window(frame.bytes.len()).await;
            let event = ChildEvent::Output { channel: frame.channel, bytes: frame.bytes };
            self.events.send(self.lease, event).await;
            self.answer(connection, reference, &WireResult::Ok);
            return;
        }
        let ours = self.next_reference;
        self.next_reference += 1;
        self.asked.insert(ours, (connection, reference));
        self.events.send(self.lease, ChildEvent::Said { reference: Some(ours), op }).await;
    }

    fn answer(&mut self, connection: u64, reference: Option<u64>, result: &WireResult) {
        if let Some(r#ref) = reference {
            self.write(connection, text(&Answer { r#ref, result }));
        }
    }

    fn down(&mut self, message: &Down) {
        let line = match message {
            Down::Answer { reference, result } => {
                if let Some((connection, theirs)) = self.asked.remove(reference) {
                    self.answer(connection, theirs, result);
                }
                return;
            }
            Down::Cancel { reason } => text(&Order::Cancel { reason: *reason }),
            Down::Signal { name, data } => {
                if let Some((connection, line)) = self.signals.came(name, data) {
                    self.write(connection, line);
                }
                text(&Order::Signal { name, data })
            }
            Down::Drain => text(&Order::Drain),
        };
        let is_signal = matches!(message, Down::Signal { .. });
        if !is_signal && !self.levels.contains(&line) {
            self.levels.push(line.clone());
        }
        let connections: Vec<u64> = self.connections.keys().copied().collect();
        for connection in connections {
            self.write(connection, line.clone());
        }
    }

    fn write(&mut self, connection: u64, line: String) {
        let full = self.connections.get(&connection).is_some_and(|lines| lines.try_send(line).is_err());
        if full {
            self.disconnect(connection);
        }
    }
}

fn text(message: &impl Serialize) -> String {
    let mut line = serde_json::to_string(message).unwrap_or_default();
    line.push('\n');
    line
}

/// What a line says, under the attempt's own lease.
fn parse(lease: LeaseRef, line: &str) -> Result<Op, String> {
    let mut item: WireItem = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let named = item.run_id.is_none_or(|run| run == lease.run_id) && item.epoch.is_none_or(|e| e == lease.epoch);
    if !named {
        return Err("run_id and epoch must be this attempt's own; leave them out".to_owned());
    }
    (item.run_id, item.epoch) = (Some(lease.run_id), Some(lease.epoch));
    if item.op == OpName::Output {
        item.seq = Some(1);
        item.channel = item.channel.or_else(|| Some("stdout".to_owned()));
    }
    let op = item.into_item()?.op;
    match &op {
        Op::Output(frame) if frame.bytes.len() > sizes::FRAME => {
            Err(format!("a frame holds at most {} bytes; cut it", sizes::FRAME))
        }
        Op::Checkpoint(data) if data.text().len() > sizes::CHECKPOINT => Err(format!(
            "a checkpoint holds at most {} bytes; save the rest elsewhere and name it here",
            sizes::CHECKPOINT
        )),
        _ => Ok(op),
    }
}

async fn read_lines(connection: u64, read: OwnedReadHalf, up: mpsc::Sender<(u64, Option<String>)>) {
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let longest = u64::try_from(LINE).unwrap_or(u64::MAX);
        let n = (&mut read).take(longest).read_until(b'\n', &mut line).await.unwrap_or(0);
        // What has no end within its limit cannot be resumed after it.
        if n == 0 || n == LINE {
            break;
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        if up.send((connection, Some(line))).await.is_err() {
            return;
        }
    }
    let _ = up.send((connection, None)).await;
}

async fn write_lines(mut write: OwnedWriteHalf, mut lines: mpsc::Receiver<String>) {
    while let Some(line) = lines.recv().await {
        if write.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlive_core::{Epoch, RunId, Wall};

    fn lease() -> LeaseRef {
        LeaseRef { run_id: RunId::from_parts(Wall(1), 1), epoch: Epoch(2) }
    }

    #[test]
    fn a_line_needs_no_name_and_may_not_name_another_attempt() {
        assert!(matches!(parse(lease(), r#"{"op":"checkpoint","data":{"i":1}}"#), Ok(Op::Checkpoint(_))));
        assert!(matches!(parse(lease(), r#"{"op":"output","text":"a"}"#), Ok(Op::Output(f)) if f.channel == "stdout"));
        let other = r#"{"op":"progress","fraction":0.5,"epoch":3}"#;
        assert!(parse(lease(), other).unwrap_err().contains("this attempt's own"));
        let large = format!(r#"{{"op":"checkpoint","data":"{}"}}"#, "x".repeat(sizes::CHECKPOINT));
        assert!(parse(lease(), &large).unwrap_err().contains("65536"));
    }

    #[test]
    fn orders_and_answers_are_lines() {
        assert_eq!(text(&Order::Drain), "{\"type\":\"drain\"}\n");
        assert_eq!(text(&Answer { r#ref: 4, result: &WireResult::Ok }), "{\"ref\":4,\"status\":\"ok\"}\n");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn lines_arrive_whole_however_they_are_cut_and_whatever_they_say(
            lines in proptest::collection::vec("[^\n]{0,60}", 0..8), cut in 1_usize..30,
        ) {
            let sent: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let read = runtime.block_on(async {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let (up, mut down) = mpsc::channel(1_000);
                let reading = tokio::spawn(read_lines(1, ours.into_split().0, up));
                let mut theirs = theirs;
                for piece in sent.chunks(cut) {
                    theirs.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                drop(theirs);
                reading.await.unwrap();
                let mut read = Vec::new();
                while let Some((1, Some(line))) = down.recv().await {
                    drop(parse(lease(), &line));
                    read.push(line.trim_end_matches('\n').to_owned());
                }
                read
            });
            proptest::prop_assert_eq!(read, lines);
        }
    }
}
