//! A proxy that loses answers: it hands a request on, reads the whole answer, and resets the connection of who asked.

use crate::raw::{Answer, Request};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Sends a request whose answer is lost on its way; what the answer would have been.
pub(crate) async fn lose(request: &Request, server: SocketAddr) -> Answer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = async {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; request.bytes().len()];
        client.read_exact(&mut asked).await.unwrap();
        let mut behind = TcpStream::connect(server).await.unwrap();
        behind.write_all(&asked).await.unwrap();
        let mut answer = Vec::new();
        behind.read_to_end(&mut answer).await.unwrap();
        // With nothing left to send, an end without lingering is a reset.
        rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        Answer::read(&answer)
    };
    let client = async {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(&request.bytes()).await.unwrap();
        let mut nothing = Vec::new();
        let end = tcp.read_to_end(&mut nothing).await;
        assert!(end.is_err() && nothing.is_empty(), "the caller learns nothing: {end:?}");
    };
    let (first, ()) =
        tokio::time::timeout(crate::support::PATIENCE, async { tokio::join!(proxy, client) }).await.unwrap();
    first
}
