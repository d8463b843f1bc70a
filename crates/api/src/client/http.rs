//! Requests, errors, JSON.

use super::servers::{Missed, Repeat, Servers};
use crate::problem::{Code, Problem};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use outlive_core::Millis;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// What can go wrong with a call.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection, or it broke before the answer. Whether the call took effect is not known.
    #[error("the server at {address} cannot be reached: {detail}. Start one with: outlive dev")]
    Unreachable {
        /// Where.
        address: String,
        /// How.
        detail: String,
    },
    /// The server said no.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The answer is not what this build understands.
    #[error("the server's answer is not understood: {0}")]
    Answer(String),
    /// The address is not one.
    #[error("\"{0}\" is not a server address; one looks like http://127.0.0.1:7070")]
    Address(String),
}

impl ClientError {
    /// The stable code, if the server gave one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Problem(p) => Some(&p.code),
            _ => None,
        }
    }
}

/// How long a connection may take to be made; less where another server may be asked instead.
const CONNECT: Duration = Duration::from_secs(5);
const CONNECT_ONE_OF_SEVERAL: Duration = Duration::from_secs(2);
/// How long one of several servers may take to answer before the next is asked, beyond what the request itself waits for.
const ANSWER: Millis = Millis::secs(10);

/// A client of one server, or of a cluster by several addresses: a request that one of them does not take goes to the next
/// (see [`super::servers`]). Cheap to clone; clones know together which one answers.
#[derive(Clone, Debug)]
pub struct Client {
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
    pub(super) servers: Servers,
    pub(super) namespace: String,
    pub(super) token: Option<String>,
}

/// A request.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: Option<Bytes>,
    pub(super) repeat: Repeat,
    /// How long the server may wait with its answer because it was asked to.
    pub(super) waits: Millis,
}

impl<'a> Ask<'a> {
    pub(super) const fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, headers: &[], body: None, repeat: Repeat::Safe, waits: Millis::ZERO }
    }
}

impl Client {
    /// `server`: `http://host:port` or `host:port`.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn new(server: &str, namespace: &str) -> Result<Self, ClientError> {
        Self::of([server], namespace)
    }

    /// A client of all these: replicas of one cluster, or one server under several addresses.
    ///
    /// # Errors
    /// [`ClientError::Address`]: one of them is none, or there are none.
    pub fn of<'a>(servers: impl IntoIterator<Item = &'a str>, namespace: &str) -> Result<Self, ClientError> {
        let servers = Servers::new(servers)?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(if servers.are_several() { CONNECT_ONE_OF_SEVERAL } else { CONNECT }));
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { http, servers, namespace: namespace.to_owned(), token: None })
    }

    /// The same, presenting a bearer token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// `host:port` of the server that answered last.
    #[must_use]
    pub fn authority(&self) -> &str {
        authority(self.servers.here())
    }

    /// `host:port` of every server.
    pub fn authorities(&self) -> impl Iterator<Item = &str> {
        self.servers.all().iter().map(|base| authority(base))
    }

    pub(super) fn unreachable(&self, detail: impl std::fmt::Display) -> ClientError {
        unreachable_at(self.servers.here(), detail)
    }

    /// Sends a request to the first server that takes it; the answer's head has come.
    pub(super) async fn send(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, ClientError> {
        let mut round = self.servers.round(ask.repeat);
        while let Some(base) = round.next() {
            match self.patiently(base, ask, self.head(base, ask)).await {
                Ok(response) => {
                    round.answered();
                    return Ok(response);
                }
                Err(missed) => round.missed(missed)?,
            }
        }
        Err(round.over())
    }

    /// The same with the whole answer.
    pub(super) async fn fetch(&self, ask: &Ask<'_>) -> Result<(StatusCode, Bytes), ClientError> {
        let mut round = self.servers.round(ask.repeat);
        while let Some(base) = round.next() {
            let whole = async {
                let response = self.head(base, ask).await?;
                Ok((response.status(), read(base, response).await?))
            };
            match self.patiently(base, ask, whole).await {
                Ok(answer) => {
                    round.answered();
                    return Ok(answer);
                }
                Err(missed) => round.missed(missed)?,
            }
        }
        Err(round.over())
    }

    /// One of several servers that does not answer is given up, if another may be asked. A sole one is waited for.
    async fn patiently<T>(
        &self,
        base: &str,
        ask: &Ask<'_>,
        answer: impl Future<Output = Result<T, Missed>>,
    ) -> Result<T, Missed> {
        if !self.servers.are_several() || ask.repeat == Repeat::Once {
            return answer.await;
        }
        let within = ask.waits + ANSWER;
        let late = |_| Err(Missed::Unknown(unreachable_at(base, format!("no answer within {within}"))));
        tokio::time::timeout(within.duration(), answer).await.unwrap_or_else(late)
    }

    async fn head(&self, base: &str, ask: &Ask<'_>) -> Result<Response<Incoming>, Missed> {
        let mut request = Request::builder()
            .method(&ask.method)
            .uri(format!("{base}{}", ask.path))
            .header(crate::NAMESPACE_HEADER, &self.namespace);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if ask.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::from(ask.body.clone().unwrap_or_default()))
            .map_err(|e| Missed::Answered(ClientError::Answer(e.to_string())))?;
        let response = self.http.request(request).await.map_err(|e| {
            let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            let error = unreachable_at(base, cause);
            if e.is_connect() { Missed::NotTaken(error) } else { Missed::Unknown(error) }
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = read(base, response).await?;
        if let Ok(problem) = serde_json::from_slice::<Problem>(&body) {
            return Err(refused(status, problem));
        }
        let said = format!("status {status}: {}", String::from_utf8_lossy(&body));
        // 502 to 504: a load balancer that has nobody behind it.
        let nobody = matches!(status.as_u16(), 502..=504);
        Err(if nobody {
            Missed::Unknown(unreachable_at(base, said))
        } else {
            Missed::Answered(ClientError::Answer(said))
        })
    }

    /// Any call without a body, the answer as text.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn text(&self, method: Method, path: &str) -> Result<String, ClientError> {
        let repeat = if method == Method::GET { Repeat::Safe } else { Repeat::Once };
        let (_, body) = self.fetch(&Ask { method, repeat, ..Ask::get(path) }).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    pub(super) async fn call<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T, ClientError> {
        let (status, body) = self.fetch(&ask).await?;
        let text: &[u8] = if status == StatusCode::NO_CONTENT { b"null" } else { &body };
        serde_json::from_slice(text).map_err(|e| ClientError::Answer(e.to_string()))
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Ask::get(path)).await
    }

    pub(super) async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        repeat: Repeat,
    ) -> Result<T, ClientError> {
        self.call(Ask { method: Method::POST, body: Some(json(body)?), repeat, ..Ask::get(path) }).await
    }

    /// A post that the server knows again by a key of its own.
    pub(super) async fn post_with_key<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let key = uuid::Uuid::new_v4().to_string();
        let headers = [("idempotency-key", key.as_str())];
        let (method, body) = (Method::POST, Some(json(body)?));
        self.call(Ask { method, body, headers: &headers, ..Ask::get(path) }).await
    }
}

/// What a server that refuses means for the others.
fn refused(status: StatusCode, problem: Problem) -> Missed {
    let (stops, fails) = (problem.code == Code::Draining.as_str(), status == StatusCode::SERVICE_UNAVAILABLE);
    let said = ClientError::Problem(Box::new(problem));
    match (stops, fails) {
        (true, _) => Missed::NotTaken(said),
        (_, true) => Missed::Unknown(said),
        _ => Missed::Answered(said),
    }
}

fn unreachable_at(base: &str, detail: impl std::fmt::Display) -> ClientError {
    ClientError::Unreachable { address: base.to_owned(), detail: detail.to_string() }
}

fn authority(base: &str) -> &str {
    base.split_once("://").map_or(base, |(_, rest)| rest)
}

pub(super) fn json(body: &impl Serialize) -> Result<Bytes, ClientError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|e| ClientError::Answer(e.to_string()))
}

async fn read(base: &str, response: Response<Incoming>) -> Result<Bytes, Missed> {
    let body = response.into_body().collect().await;
    Ok(body.map_err(|e| Missed::Unknown(unreachable_at(base, e)))?.to_bytes())
}

/// `name=value` pairs as a query, empty ones left out.
#[must_use]
pub fn query(pairs: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs.iter().filter(|(_, v)| !v.is_empty()) {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        text.push_str(&escape(value));
    }
    text
}

/// Percent-encodes what may not stand in a path segment or query value.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b',') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0').to_ascii_uppercase());
            out.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0').to_ascii_uppercase());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_escapes_its_values_and_leaves_empty_ones_out() {
        let text = query(&[("tag", "team:a b".into()), ("queue", String::new()), ("x", "é".into())]);
        assert_eq!(text, "?tag=team:a%20b&x=%C3%A9");
    }

    #[test]
    fn an_address_needs_no_scheme_and_https_is_refused() {
        assert_eq!(Client::new("127.0.0.1:1", "default").unwrap().servers.here(), "http://127.0.0.1:1");
        assert!(Client::new("https://x", "default").is_err());
        assert!(Client::new("http://", "default").is_err());
    }
}
