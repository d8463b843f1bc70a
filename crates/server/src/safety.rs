//! A server without login must not be reachable from a web page: Host, Origin and fetch metadata are checked before anything
//! else, on every route. There is no CORS.

use crate::app::App;
use crate::reply::Fault;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use outlive_api::problem::Code;
use std::net::IpAddr;
use std::sync::Arc;

/// The check, as a layer.
pub(crate) async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let any_host = !app.config.listen.ip().is_loopback();
    match foreign(request.headers(), any_host) {
        Some(detail) => Fault::new(Code::ForeignOrigin, detail).into_response(),
        None => next.run(request).await,
    }
}

/// What is foreign about a request.
fn foreign(headers: &HeaderMap, any_host: bool) -> Option<String> {
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or_default();
    if !any_host && !is_loopback(host) {
        return Some(format!("the Host header is \"{host}\"; this server answers only to loopback names"));
    }
    if let Some(origin) = text(header::ORIGIN) {
        let same = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
        if !same {
            return Some(format!("the request comes from a page of \"{origin}\""));
        }
    }
    let site = headers.get("sec-fetch-site").map(|v| v.to_str().unwrap_or("?"));
    match site {
        Some("cross-site" | "same-site") => Some("the request comes from a page of another site".to_owned()),
        _ => None,
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect::<HeaderMap>()
    }

    #[test]
    fn only_loopback_names_and_the_same_origin_pass() {
        for host in ["localhost:7070", "127.0.0.1:7070", "127.1.2.3", "[::1]:7070"] {
            assert_eq!(foreign(&headers(&[("host", host)]), false), None, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:7070", "10.0.0.1:7070", ""] {
            assert!(foreign(&headers(&[("host", host)]), false).is_some(), "{host}");
        }
        let ours = ("host", "localhost:7070");
        assert_eq!(foreign(&headers(&[ours, ("origin", "http://localhost:7070")]), false), None);
        for origin in ["http://evil.example", "null", "http://localhost:8080"] {
            assert!(foreign(&headers(&[ours, ("origin", origin)]), false).is_some(), "{origin}");
        }
        assert!(foreign(&headers(&[ours, ("sec-fetch-site", "cross-site")]), false).is_some());
    }
}
