//! What handlers take out of a request: body, namespace, token. Every refusal is a problem with its code.

use crate::app::App;
use crate::reply::Fault;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{header, request::Parts};
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use outlive_api::problem::Code;
use outlive_core::limits::sizes;
use outlive_core::{Holder, RunId, WorkerId};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A JSON body. An empty one reads as `{}` for calls whose body is optional.
pub(crate) struct Body<T>(pub(crate) T);

/// The same with its bytes, for idempotency.
pub(crate) struct RawBody<T>(pub(crate) T, pub(crate) Bytes);

/// A whole body must have arrived within this; a client that sends a byte now and then holds nothing for longer.
const BODY_TIME: std::time::Duration = std::time::Duration::from_secs(30);
/// How much beyond the limit is read, so that the refusal can be; a body that is larger still is cut off.
const DISCARDED: usize = 4 * sizes::BODY;

async fn read<T: DeserializeOwned>(request: Request) -> Result<(T, Bytes), Fault> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let is_json = content_type.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("application/json"));
    let declared = content_type.to_owned();
    let late =
        |_| Fault::new(Code::InvalidRequest, format!("the body did not arrive within {} s", BODY_TIME.as_secs()));
    let bytes = tokio::time::timeout(BODY_TIME, whole(request.into_body())).await.map_err(late)??;
    if bytes.is_empty() {
        return Ok((serde_json::from_str("{}").map_err(|e| unreadable(&e))?, bytes));
    }
    if !is_json {
        let detail = format!("the body must be application/json, not \"{declared}\"");
        return Err(Fault::new(Code::UnsupportedMediaType, detail));
    }
    // A list would be read as an object's fields in their order: nobody means that.
    if bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).map_err(|e| unreadable(&e))?;
        return Err(Fault::field("body", "must be a JSON object"));
    }
    Ok((serde_json::from_slice(&bytes).map_err(|e| unreadable(&e))?, bytes))
}

/// All of a body. One that is too large is read on and thrown away for a while: who is answered in the middle of its sending
/// finds its connection reset, and never reads why.
async fn whole(mut body: axum::body::Body) -> Result<Bytes, Fault> {
    let mut bytes = BytesMut::new();
    let mut length = 0;
    while length <= sizes::BODY + DISCARDED
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|_| Fault::new(Code::InvalidRequest, "the body could not be read"))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= sizes::BODY {
            bytes.extend_from_slice(&data);
        } else {
            bytes = BytesMut::new();
        }
    }
    if length > sizes::BODY {
        return Err(Fault::new(Code::TooLarge, format!("the body is larger than {} bytes", sizes::BODY)));
    }
    Ok(bytes.freeze())
}

/// What is wrong with a body, and with which of its fields.
fn unreadable(error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    if error.is_syntax() || error.is_eof() {
        return Fault::new(Code::InvalidJson, text);
    }
    let field = text.split('`').nth(1).filter(|_| text.contains("field")).unwrap_or("body").to_owned();
    let mut fault = Fault::field(field, text.clone());
    fault.0.detail = text;
    fault
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Fault;
    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Fault> {
        read(request).await.map(|(body, _)| Self(body))
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for RawBody<T> {
    type Rejection = Fault;
    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Fault> {
        read(request).await.map(|(body, bytes)| Self(body, bytes))
    }
}

/// A namespace.
pub(crate) struct Namespace(pub(crate) String);

impl FromRequestParts<Arc<App>> for Namespace {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Fault> {
        let Some(value) = parts.headers.get(outlive_api::NAMESPACE_HEADER) else {
            return Ok(Self(outlive_api::DEFAULT_NAMESPACE.to_owned()));
        };
        let name = value.to_str().unwrap_or_default();
        check_name("Outlive-Namespace", name)?;
        Ok(Self(name.to_owned()))
    }
}

/// A name of a queue, kind, worker, label, key.
pub(crate) fn check_name(field: &str, name: &str) -> Result<(), Fault> {
    outlive_core::names::check(name).map_err(|bad| Fault::field(field, bad.to_string()))
}

/// Query parameters.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Fault> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, app).await;
        let detail = |e: axum::extract::rejection::QueryRejection| {
            let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            Fault::field("query", cause)
        };
        read.map(|axum::extract::Query(q)| Self(q)).map_err(detail)
    }
}

/// The run in the path.
pub(crate) struct RunPath(pub(crate) RunId);

impl FromRequestParts<Arc<App>> for RunPath {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Fault> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, app).await;
        let text = path.map(|axum::extract::Path(p)| p).unwrap_or_default();
        text.parse().map(Self).map_err(|_| Fault::field("id", format!("\"{text}\" is not a run id (a UUID)")))
    }
}

/// The queue in the path.
pub(crate) struct QueuePath(pub(crate) String);

impl FromRequestParts<Arc<App>> for QueuePath {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Fault> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, app).await;
        let bad = |_| Fault::field("name", "is not percent-encoded UTF-8");
        path.map(|axum::extract::Path(name)| Self(name)).map_err(bad)
    }
}

/// The subject in the path.
pub(crate) struct SubjectPath(pub(crate) String);

impl FromRequestParts<Arc<App>> for SubjectPath {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Fault> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, app).await;
        let bad = |_| Fault::field("subject", "is not percent-encoded UTF-8");
        let name = path.map(|axum::extract::Path(name)| name).map_err(bad)?;
        check_name("subject", &name)?;
        Ok(Self(name))
    }
}

/// The worker in the path.
pub(crate) struct WorkerPath(pub(crate) WorkerId);

impl FromRequestParts<Arc<App>> for WorkerPath {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Fault> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, app).await;
        let text = path.map(|axum::extract::Path(p)| p).unwrap_or_default();
        text.parse().map(Self).map_err(|_| Fault::worker_not_found(text))
    }
}

/// The session token of a worker's own call.
pub(crate) struct Token(pub(crate) Option<Holder>);

impl FromRequestParts<Arc<App>> for Token {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Fault> {
        let Some(value) = parts.headers.get(header::AUTHORIZATION) else { return Ok(Self(None)) };
        let token = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer ")).unwrap_or_default();
        match app.signer.holder(token) {
            Some(holder) => Ok(Self(Some(holder))),
            None => {
                Err(Fault::new(Code::Unauthenticated, "the session token is not one of this store; register again"))
            }
        }
    }
}

impl Token {
    /// The holder, who must be this worker.
    pub(crate) fn of(&self, worker: WorkerId) -> Result<Holder, Fault> {
        match self.0 {
            Some(holder) if holder.worker == worker => Ok(holder),
            Some(holder) => Err(Fault::new(
                Code::NotOwner,
                format!("the session token is of worker {}, not {worker}", holder.worker),
            )),
            None => Err(Fault::new(
                Code::Unauthenticated,
                "this call needs the session token of the worker: Authorization: Bearer <session_token>",
            )),
        }
    }
}
