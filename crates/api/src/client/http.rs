//! Requests, errors, JSON.

use crate::problem::Problem;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;

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

/// A client of one server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
    pub(super) base: String,
    pub(super) namespace: String,
    pub(super) token: Option<String>,
}

impl Client {
    /// `server`: `http://host:port` or `host:port`.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn new(server: &str, namespace: &str) -> Result<Self, ClientError> {
        let (scheme, rest) = server.split_once("://").unwrap_or(("http", server));
        let authority = rest.trim_end_matches('/');
        let parsed: Result<hyper::http::uri::Authority, _> = authority.parse();
        if scheme != "http" || parsed.is_err() {
            return Err(ClientError::Address(server.to_owned()));
        }
        let base = format!("http://{authority}");
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(std::time::Duration::from_secs(5)));
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { http, base, namespace: namespace.to_owned(), token: None })
    }

    /// The same, presenting a bearer token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// `http://host:port`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `host:port`.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.base.split_once("://").map_or(&self.base, |(_, rest)| rest)
    }

    pub(super) fn unreachable(&self, detail: impl std::fmt::Display) -> ClientError {
        ClientError::Unreachable { address: self.base.clone(), detail: detail.to_string() }
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(crate::NAMESPACE_HEADER, &self.namespace);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request =
            request.body(Full::from(body.unwrap_or_default())).map_err(|e| ClientError::Answer(e.to_string()))?;
        let response = self.http.request(request).await.map_err(|e| {
            let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            self.unreachable(cause)
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.read(response).await?;
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(_) => ClientError::Answer(format!("status {status}: {}", String::from_utf8_lossy(&body))),
        })
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        Ok(response.into_body().collect().await.map_err(|e| self.unreachable(e))?.to_bytes())
    }

    /// Any call: `body` as JSON if given, the answer as text.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn text(&self, method: Method, path: &str) -> Result<String, ClientError> {
        let response = self.send(method, path, &[], None).await?;
        let body = self.read(response).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    pub(super) async fn call<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let body = body.map(serde_json::to_vec).transpose().map_err(|e| ClientError::Answer(e.to_string()))?;
        let response = self.send(method, path, headers, body).await?;
        let empty = response.status() == StatusCode::NO_CONTENT;
        let body = self.read(response).await?;
        let text: &[u8] = if empty { b"null" } else { &body };
        serde_json::from_slice(text).map_err(|e| ClientError::Answer(e.to_string()))
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call::<(), T>(Method::GET, path, &[], None).await
    }

    pub(super) async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.call(Method::POST, path, &[], Some(body)).await
    }
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
        assert_eq!(Client::new("127.0.0.1:1", "default").unwrap().base(), "http://127.0.0.1:1");
        assert!(Client::new("https://x", "default").is_err());
        assert!(Client::new("http://", "default").is_err());
    }
}
