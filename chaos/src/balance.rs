//! A load balancer that sprays: each request goes to another replica, whoever sent the one before.
//!
//! A replica whose `/readyz` does not say yes is left out, unless none does. What could not be connected goes to the next one;
//! what was sent and not answered is answered 502 or 504, and repeating it is the caller's affair, as it is with any balancer.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_local};

/// For an answer's head. More than any request asks its server to wait here.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at who is ready, and for each answer.
const LOOK: Duration = Duration::from_millis(500);

type Body = Either<Incoming, Full<Bytes>>;

/// A running one.
#[derive(Debug)]
pub(crate) struct Balancer {
    /// Where it listens.
    pub(crate) address: String,
    shared: Rc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Shared {
    http: Client<HttpConnector, Full<Bytes>>,
    replicas: Vec<String>,
    ready: RefCell<Vec<bool>>,
    turn: Cell<usize>,
    sent: RefCell<Vec<u64>>,
}

impl Balancer {
    /// In front of these (`host:port`).
    ///
    /// # Errors
    /// The port is taken.
    pub(crate) async fn new(port: u16, replicas: Vec<String>) -> Result<Self, String> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(|e| format!("no load balancer: {e}"))?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(1)));
        let shared = Rc::new(Shared {
            http: Client::builder(TokioExecutor::new()).build(connector),
            ready: RefCell::new(vec![true; replicas.len()]),
            sent: RefCell::new(vec![0; replicas.len()]),
            replicas,
            turn: Cell::new(0),
        });
        let serves = spawn_local(serve(listener, Rc::clone(&shared)));
        let looks = spawn_local(look(Rc::clone(&shared)));
        Ok(Self { address: format!("127.0.0.1:{port}"), shared, tasks: [serves, looks] })
    }

    /// Requests that each replica answered.
    #[must_use]
    pub(crate) fn answered(&self) -> Vec<u64> {
        self.shared.sent.borrow().clone()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(listener: TcpListener, shared: Rc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let shared = Rc::clone(&shared);
        spawn_local(async move {
            let service = service_fn(move |request| forward(Rc::clone(&shared), request));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn look(shared: Rc<Shared>) {
    loop {
        for (n, replica) in shared.replicas.iter().enumerate() {
            let request = Request::get(format!("http://{replica}/readyz")).body(Full::default());
            let Ok(request) = request else { continue };
            let answer = tokio::time::timeout(LOOK, shared.http.request(request)).await;
            let is_ready = matches!(answer, Ok(Ok(answer)) if answer.status().is_success());
            shared.ready.borrow_mut()[n] = is_ready;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whom to ask, in order: those that are ready, beginning with the next in turn; all, if none is.
fn order(ready: &[bool], turn: usize) -> Vec<usize> {
    let all = (0..ready.len()).map(|n| (n + turn) % ready.len());
    if ready.contains(&true) { all.filter(|&n| ready[n]).collect() } else { all.collect() }
}

async fn forward(shared: Rc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (mut head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(said(StatusCode::BAD_REQUEST, "the request's body broke")) };
    let body = body.to_bytes();
    head.headers.remove(CONNECTION);
    head.headers.remove(HOST);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let turn = shared.turn.get();
    shared.turn.set(turn.wrapping_add(1));
    let mut why = "no replica".to_owned();
    let whom = order(&shared.ready.borrow(), turn);
    for n in whom {
        let Ok(uri) = format!("http://{}{path}", shared.replicas[n]).parse::<Uri>() else { break };
        let mut request = Request::new(Full::from(body.clone()));
        *request.method_mut() = head.method.clone();
        *request.headers_mut() = head.headers.clone();
        *request.uri_mut() = uri;
        match tokio::time::timeout(PATIENCE, shared.http.request(request)).await {
            Ok(Ok(response)) => {
                shared.sent.borrow_mut()[n] += 1;
                return Ok(response.map(Either::Left));
            }
            Ok(Err(error)) if error.is_connect() => why = error.to_string(),
            Ok(Err(error)) => return Ok(said(StatusCode::BAD_GATEWAY, &error.to_string())),
            Err(_) => return Ok(said(StatusCode::GATEWAY_TIMEOUT, "no answer in time")),
        }
    }
    Ok(said(StatusCode::BAD_GATEWAY, &why))
}

fn said(status: StatusCode, why: &str) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::from(why.to_owned())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_to_one_after_the_other_and_not_to_those_that_are_not_ready() {
        assert_eq!(order(&[true; 3], 4), [1, 2, 0]);
        assert_eq!(order(&[true, false, true], 1), [2, 0]);
        assert_eq!(order(&[false; 3], 2), [2, 0, 1], "perhaps the look was wrong");
    }
}
