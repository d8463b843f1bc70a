//! The listener: a connection that does not come to the point is closed, so that half-open ones cannot use up descriptors.

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A whole head must have arrived within this, counted from the connection's start or the end of the request before.
pub(crate) const HEAD_TIME: Duration = Duration::from_mins(1);
/// Out of descriptors, most likely: the next close helps.
const PAUSE: Duration = Duration::from_millis(50);

/// Connections that wait to be accepted: as many as the system lets (`net.core.somaxconn`). The usual 128 are too few for a
/// thousand workers whose server has died: the system drops what is beyond them, and they come again after a second or two.
const BACKLOG: u32 = 65_535;

/// Listens.
///
/// # Errors
/// The system's.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // What a server before this one has left of its connections keeps no new one from the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stopped`, then ends when every request has been answered; dropping it ends them.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    head_time: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    let (mut connections, each) = (JoinSet::new(), stopped.clone());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => {
                    drop(connections.spawn(connection(tcp, peer, router.clone(), head_time, each.clone())));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = over(&mut stopped) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn over(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stop| *stop).await);
}

async fn connection(
    tcp: TcpStream,
    peer: SocketAddr,
    router: Router,
    head_time: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    drop(tcp.set_nodelay(true));
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        inner.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .serve_connection(TokioIo::new(tcp), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    tokio::select! {
        _ = served.as_mut() => return,
        () = over(&mut stopped) => served.as_mut().graceful_shutdown(),
    }
    let _ = served.await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn hundreds_of_workers_can_come_at_once() {
        const CAME: usize = 300;
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody accepts: what the system does not keep is dropped, and not connected before it is.
        let came = (0..CAME).map(|_| TcpStream::connect(address));
        let came = tokio::time::timeout(Duration::from_secs(20), futures_util::future::try_join_all(came)).await;
        assert_eq!(came.expect("all wait to be accepted").unwrap().len(), CAME);
    }

    #[tokio::test]
    async fn a_head_that_does_not_come_to_its_end_is_closed_and_others_are_answered() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let router = Router::new().route("/", axum::routing::get(|| async { "here" }));
        let serving = tokio::spawn(serve(listener, router, Duration::from_millis(200), stopped));
        let mut answers = Vec::new();
        for request in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: localhost\r\nx-", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"]
        {
            let mut tcp = TcpStream::connect(address).await.unwrap();
            tcp.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let read = tokio::time::timeout(Duration::from_secs(20), tcp.read_to_string(&mut answer)).await;
            read.expect("it is closed").unwrap();
            answers.push(answer.contains("here"));
        }
        assert_eq!(answers, [false, false, false, true]);
        stop.send_replace(true);
        serving.await.unwrap();
    }
}
