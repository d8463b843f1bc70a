//! Something between workers and server. Through it a worker's own address is not the one that the server sees, so other windows
//! apply: the end of a connection may be the proxy's alone.

use std::cell::RefCell;
use std::rc::Rc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_local};

#[derive(Debug)]
pub(in super::super) struct Proxy {
    pub(in super::super) address: String,
    state: Rc<RefCell<State>>,
    accepts: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    refuses: bool,
    connections: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// In front of a server.
    pub(in super::super) async fn new(port: u16, server: String) -> Result<Self, String> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(|e| format!("no proxy: {e}"))?;
        let address = format!("127.0.0.1:{port}");
        let state = Rc::<RefCell<State>>::default();
        let shared = Rc::clone(&state);
        let accepts = spawn_local(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut state = shared.borrow_mut();
                if !state.refuses {
                    state.connections.retain(|connection| !connection.is_finished());
                    state.connections.push(spawn_local(carry(client, server.clone())));
                }
            }
        });
        Ok(Self { address, state, accepts })
    }

    /// Cuts all connections; how many there were.
    pub(in super::super) fn cut(&self) -> usize {
        let connections = std::mem::take(&mut self.state.borrow_mut().connections);
        let open = connections.iter().filter(|connection| !connection.is_finished()).count();
        connections.iter().for_each(JoinHandle::abort);
        open
    }

    /// Whether new connections end at once.
    pub(in super::super) fn refuse(&self, refuses: bool) {
        self.state.borrow_mut().refuses = refuses;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepts.abort();
        self.cut();
    }
}

async fn carry(mut client: TcpStream, server: String) {
    if let Ok(mut server) = TcpStream::connect(server).await {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        // Its end, whichever way, is the end of both sides.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
