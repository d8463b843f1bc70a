//! Between server and worker: every byte passes here, unless a scenario holds or loses it.
//!
//! HTTP is passed on request by request, each on a connection of its own; a WebSocket frame by frame. That is enough to
//! know which reply is lost, and little enough to stay readable.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The longest head of a request or answer.
const HEAD: usize = 64 << 10;
/// The longest frame or body.
const BODY: usize = 20 << 20;

/// The connection between them.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    server: SocketAddr,
    held: watch::Sender<bool>,
    /// Whose reply is to be lost.
    lose: Mutex<Option<String>>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Wire {
    pub(crate) async fn open(server: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { server, held: watch::channel(false).0, lose: Mutex::new(None) });
        let known = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&known);
                // An end of either side is the end of the connection, and nothing more.
                tokio::spawn(async move { drop(shared.serve(client).await) });
            }
        });
        Ok(Self { address, shared, accepting })
    }

    pub(crate) fn hold(&self, held: bool) {
        self.shared.held.send_replace(held);
    }

    pub(crate) fn lose(&self, what: &str) {
        *self.shared.lose.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.to_owned());
    }

    pub(crate) fn has_lost(&self) -> bool {
        self.shared.lose.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl Shared {
    async fn passing(&self) {
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }

    /// Whether this is the question whose answer is to be lost. `claim` is known by its answer.
    fn is_asked(&self, message: &[u8]) -> bool {
        let wanted = self.lose.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.as_ref().is_some_and(|op| op != "claim" && compact(message).contains(&format!("\"op\":\"{op}\"")))
    }

    fn is_lease(&self, message: &[u8]) -> bool {
        let wanted = self.lose.lock().unwrap_or_else(PoisonError::into_inner);
        let text = compact(message);
        wanted.as_deref() == Some("claim") && text.contains("\"leases\":[{") && !text.contains("\"session_token\"")
    }

    fn lost(&self) {
        *self.lose.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let (head, mut body) = head(&mut client).await?;
        let text = String::from_utf8_lossy(&head).into_owned();
        let header = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
        };
        let length: usize = header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0).min(BODY);
        while body.len() < length {
            if client.read_buf(&mut body).await? == 0 {
                return Ok(());
            }
        }
        let is_session = header("upgrade").is_some();
        let asked = self.is_asked(&body);
        let mut byte = [0];
        tokio::select! {
            biased;
            () = self.passing() => {}
            _ = client.peek(&mut byte) => return Ok(()), // gone while it was held: nobody heard it
        }
        let mut server = TcpStream::connect(self.server).await?;
        if is_session {
            server.write_all(&head).await?;
            return self.session(client, server).await;
        }
        let kept = text.lines().filter(|l| !l.to_ascii_lowercase().starts_with("connection:") && !l.is_empty());
        let once: String = kept.flat_map(|line| [line, "\r\n"]).collect();
        server.write_all(format!("{once}connection: close\r\n\r\n").as_bytes()).await?;
        server.write_all(&body).await?;
        let mut answer = Vec::new();
        tokio::select! {
            read = server.read_to_end(&mut answer) => drop(read?),
            _ = client.peek(&mut byte) => return Ok(()), // it waits no more
        }
        if asked || self.is_lease(&answer) {
            self.lost();
            return Ok(());
        }
        self.passing().await;
        client.write_all(&answer).await
    }

    async fn session(&self, client: TcpStream, server: TcpStream) -> std::io::Result<()> {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let (upgraded, rest) = head(&mut from_server).await?;
        self.pass(&mut to_client, &upgraded).await?;
        if !upgraded.starts_with(b"HTTP/1.1 101") {
            to_client.write_all(&rest).await?;
            return tokio::io::copy(&mut from_server, &mut to_client).await.map(drop);
        }
        let asked = std::sync::atomic::AtomicBool::new(false);
        let up = async {
            loop {
                let (raw, text) = frame(&mut from_client, &mut Vec::new()).await?;
                if self.is_asked(&text) {
                    asked.store(true, std::sync::atomic::Ordering::Release);
                }
                self.pass(&mut to_server, &raw).await?;
            }
        };
        let down = async {
            let mut rest = rest;
            loop {
                let (raw, text) = frame(&mut from_server, &mut rest).await?;
                let answers =
                    asked.load(std::sync::atomic::Ordering::Acquire) && compact(&text).contains("\"type\":\"results\"");
                if answers || self.is_lease(&text) {
                    self.lost();
                    return Ok(()); // both directions end with this
                }
                self.pass(&mut to_client, &raw).await?;
            }
        };
        tokio::select! {
            ended = up => ended,
            ended = down => ended,
        }
    }

    async fn pass(&self, to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
        self.passing().await;
        to.write_all(bytes).await
    }
}

/// Without spaces, to look for words in it.
fn compact(message: &[u8]) -> String {
    String::from_utf8_lossy(message).chars().filter(|c| !c.is_whitespace()).collect()
}

/// A head with its empty line, and what came after it.
async fn head(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            return Ok((bytes, rest));
        }
        if bytes.len() > HEAD || from.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// One WebSocket frame as it came, and what it says. `read`: what was read already.
async fn frame(from: &mut (impl AsyncRead + Unpin), read: &mut Vec<u8>) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let mut raw = vec![0; 2];
    let mut from = std::io::Cursor::new(std::mem::take(read)).chain(from);
    from.read_exact(&mut raw).await?;
    let masked = raw[1] & 0x80 != 0;
    let more = match raw[1] & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mut extended = vec![0; more];
    from.read_exact(&mut extended).await?;
    let length = if more == 0 {
        u64::from(raw[1] & 0x7f)
    } else {
        extended.iter().fold(0, |n, byte| (n << 8) | u64::from(*byte))
    };
    raw.extend_from_slice(&extended);
    let mut mask = vec![0; if masked { 4 } else { 0 }];
    from.read_exact(&mut mask).await?;
    raw.extend_from_slice(&mask);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > BODY {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await?;
    raw.extend_from_slice(&payload);
    if masked {
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    }
    let (left, _) = from.into_inner();
    let at = usize::try_from(left.position()).unwrap_or(usize::MAX);
    *read = left.into_inner().split_off(at);
    Ok((raw, payload))
}
