//! Connections as tasks: registration, the session socket, its reader and its writer.

use super::shell::Happening;
use super::types::Conn;
use crate::config::AgentError;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use outlive_api::client::socket::{SessionSocket, frames};
use outlive_api::client::{Client, ClientError};
use outlive_api::session::{ServerMessage, WorkerMessage};
use outlive_api::workers::{Register, Registered};
use outlive_core::Millis;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

/// Messages that wait to be written. A server that reads so slowly is not a home.
const UNWRITTEN: usize = 256;

/// What a try to open a session came to.
pub(super) enum Opened {
    /// A session, under this registration.
    Session(Box<SessionSocket>, Registered),
    /// Not now. Whether the registration is worth nothing any more.
    NotNow { problem: String, register_again: bool },
    /// A newer incarnation has the name.
    Replaced,
    /// Never like this.
    Never(AgentError),
}

/// How to open one.
pub(super) struct Opening {
    pub address: String,
    pub within: Millis,
    pub namespace: String,
    pub register: Register,
    pub registered: Option<Registered>,
    /// Whether this agent has been registered before: then its name is its own, and refusals may pass.
    pub known: bool,
    /// Whether the one that has its name may be its own predecessor.
    pub succeeds: bool,
}

/// Registers, unless that is done, and opens a session.
pub(super) async fn open(opening: Opening) -> Opened {
    let (address, within) = (opening.address.clone(), opening.within);
    match tokio::time::timeout(within.duration(), try_open(opening)).await {
        Ok(Ok((socket, registered))) => Opened::Session(Box::new(socket), registered),
        Ok(Err(not_opened)) => not_opened,
        Err(_) => {
            let problem = format!("the server at {address} did not answer within {within}");
            Opened::NotNow { problem, register_again: false }
        }
    }
}

async fn try_open(opening: Opening) -> Result<(SessionSocket, Registered), Opened> {
    let Opening { address, within: _, namespace, register, registered, known, succeeds } = opening;
    let client = Client::new(&address, &namespace).map_err(|e| {
        let problem = e.to_string();
        // Later, it may be one of the addresses that a server named: there are others.
        if known {
            Opened::NotNow { problem, register_again: false }
        } else {
            Opened::Never(AgentError::Config(problem))
        }
    })?;
    let registered = match registered {
        Some(registered) => registered,
        None => client.register(&register).await.map_err(|e| not_registered(&e, &register.name, known, succeeds))?,
    };
    let client = client.with_token(&registered.session_token);
    let socket = client.session(registered.worker_id).await.map_err(|e| no_session(&e))?;
    Ok((socket, registered))
}

fn not_registered(e: &ClientError, name: &str, known: bool, succeeds: bool) -> Opened {
    let problem = e.to_string();
    match e.code() {
        Some("name_in_use" | "session_replaced") if known => Opened::Replaced,
        // Another replica is its home and has not noticed its end: soon it will, or the next address is that replica's.
        Some("name_in_use") if succeeds => Opened::NotNow { problem, register_again: true },
        Some("name_in_use") => Opened::Never(AgentError::NameInUse { name: name.to_owned(), detail: problem }),
        Some("protocol_unsupported") => Opened::Never(AgentError::Refused(problem)),
        Some("unauthenticated" | "forbidden" | "not_owner" | "invalid_request" | "invalid_json") if !known => {
            Opened::Never(AgentError::Refused(problem))
        }
        _ => Opened::NotNow { problem, register_again: true },
    }
}

fn no_session(e: &ClientError) -> Opened {
    let problem = e.to_string();
    match e.code() {
        Some("session_replaced") => Opened::Replaced,
        Some("unauthenticated" | "worker_not_found") => Opened::NotNow { problem, register_again: true },
        _ => Opened::NotNow { problem, register_again: false },
    }
}

/// An open socket: one task reads, one writes, neither waits for the other.
pub(super) struct Wire {
    messages: mpsc::Sender<WorkerMessage>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Wire {
    pub(super) fn new(conn: Conn, socket: SessionSocket, happenings: mpsc::Sender<Happening>) -> Self {
        let (sink, stream) = socket.split();
        let (messages, unwritten) = mpsc::channel(UNWRITTEN);
        let reader = tokio::spawn(read(conn, stream, happenings));
        Self { messages, reader, writer: tokio::spawn(write(sink, unwritten)) }
    }

    /// False: it is so far behind that it is of no use.
    pub(super) fn send(&self, message: WorkerMessage) -> bool {
        self.messages.try_send(message).is_ok()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

async fn read(conn: Conn, mut stream: SplitStream<SessionSocket>, happenings: mpsc::Sender<Happening>) {
    while let Some(Ok(frame)) = stream.next().await {
        let Message::Text(text) = frame else { continue };
        match ServerMessage::parse(&text) {
            Ok(Some(message)) => {
                if happenings.send(Happening::Message(conn, Box::new(message))).await.is_err() {
                    return;
                }
            }
            Ok(None) => {}
            Err(problem) => {
                tracing::warn!(%problem, "a message of the server is not understood; opening another session");
                break;
            }
        }
    }
    let _ = happenings.send(Happening::Ended(conn)).await;
}

/// Ends quietly: the reader notices the end of the connection, and tells it.
async fn write(mut sink: SplitSink<SessionSocket, Message>, mut unwritten: mpsc::Receiver<WorkerMessage>) {
    while let Some(first) = unwritten.recv().await {
        let mut next = Some(first);
        while let Some(message) = next {
            for frame in frames(&message) {
                if sink.feed(frame).await.is_err() {
                    return;
                }
            }
            next = unwritten.try_recv().ok();
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
}
