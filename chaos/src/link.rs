//! Something on the way between two processes: it carries bytes, late if told to, or not at all; its connections can be cut.
//!
//! Between a worker and a server it also means that the worker's own address is not the one that the server sees, so other
//! windows apply: the end of a connection may be the link's alone.
//!
//! | mode | connections that are there | new ones |
//! |---|---|---|
//! | `Open` | are carried | are carried |
//! | `Slow` | are carried, each piece that much later | the same |
//! | `Dark` | stay open, and nothing comes through, not even their end: half-open | the same |
//! | `Refused` | are carried | end at once |

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};

/// Bytes that are carried at once.
const PIECE: usize = 64 << 10;

/// What it does with what it should carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Carries it.
    #[default]
    Open,
    /// Carries it later.
    Slow(Duration),
    /// Keeps it.
    Dark,
    /// Takes no new connections.
    Refused,
}

/// A port that leads to another one.
#[derive(Debug)]
pub struct Link {
    /// Where it listens.
    pub port: u16,
    mode: watch::Sender<Mode>,
    connections: Rc<RefCell<Vec<JoinHandle<()>>>>,
    accepts: JoinHandle<()>,
}

impl Link {
    /// In front of a server.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn new(port: u16, server: String) -> Result<Self, String> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(|e| format!("no link: {e}"))?;
        let connections = Rc::<RefCell<Vec<JoinHandle<()>>>>::default();
        let (mode, changes) = watch::channel(Mode::Open);
        let kept = Rc::clone(&connections);
        let accepts = spawn_local(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *changes.borrow() != Mode::Refused {
                    let mut kept = kept.borrow_mut();
                    kept.retain(|connection| !connection.is_finished());
                    kept.push(spawn_local(carry(client, server.clone(), changes.clone())));
                }
            }
        });
        Ok(Self { port, mode, connections, accepts })
    }

    /// `host:port` of it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.connections.borrow().iter().filter(|connection| !connection.is_finished()).count()
    }

    /// Cuts all connections; how many there were.
    pub fn cut(&self) -> usize {
        let open = self.open();
        std::mem::take(&mut *self.connections.borrow_mut()).iter().for_each(JoinHandle::abort);
        open
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepts.abort();
        self.cut();
    }
}

async fn carry(client: TcpStream, server: String, mode: watch::Receiver<Mode>) {
    let mut begin = mode.clone();
    if begin.wait_for(|mode| *mode != Mode::Dark).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Its end, whichever way, is the end of both sides.
    tokio::select! {
        () = one_way(from_client, to_server, mode.clone()) => {}
        () = one_way(from_server, to_client, mode) => {}
    }
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await.unwrap_or(0);
        let Ok(now) = mode.wait_for(|mode| *mode != Mode::Dark).await.map(|mode| *mode) else { return };
        if let Mode::Slow(late) = now {
            tokio::time::sleep(late).await;
        }
        if read == 0 || to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    fn played(play: impl AsyncFnOnce(Link, std::net::TcpListener)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = crate::process::free_port(&mut crate::rng::Rng::new(u64::from(std::process::id()))).unwrap();
            let link = Link::new(port, server.local_addr().unwrap().to_string()).await.unwrap();
            play(link, server).await;
        });
    }

    /// Blocking ends of a connection, beside the link.
    async fn apart<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(what).await.unwrap()
    }

    #[test]
    fn a_dark_link_keeps_the_connection_and_gives_what_it_kept_when_it_is_open_again() {
        played(async |link, server| {
            let address = link.address();
            let (mut client, mut served) = apart(move || {
                let client = std::net::TcpStream::connect(address).unwrap();
                (client, server.accept().unwrap().0)
            })
            .await;
            link.set(Mode::Dark);
            client.write_all(b"x").unwrap();
            let nothing = apart(move || {
                served.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                let nothing = served.read(&mut [0]).is_err();
                served.set_read_timeout(None).unwrap();
                (nothing, served)
            });
            let (nothing, mut served) = nothing.await;
            assert!(nothing);
            link.set(Mode::Open);
            assert_eq!(apart(move || served.read(&mut [0]).unwrap()).await, 1);
        });
    }

    #[test]
    fn a_link_that_is_cut_ends_both_sides_and_one_that_refuses_ends_new_ones() {
        played(async |link, server| {
            let address = link.address();
            let (mut client, mut served) = apart(move || {
                let client = std::net::TcpStream::connect(address).unwrap();
                (client, server.accept().unwrap().0)
            })
            .await;
            assert_eq!(link.cut(), 1);
            assert_eq!(apart(move || (client.read(&mut [0]).unwrap(), served.read(&mut [0]).unwrap())).await, (0, 0));
            link.set(Mode::Refused);
            let address = link.address();
            assert_eq!(
                apart(move || std::net::TcpStream::connect(address).unwrap().read(&mut [0]).unwrap_or(0)).await,
                0
            );
        });
    }
}
