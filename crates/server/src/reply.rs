//! Errors as answers: every error of the store and of handlers, mapped in one place.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use outlive_api::problem::{Code, MEDIA_TYPE, Problem};
use outlive_store::{CreateError, RegisterError, StoreError, WriteError};

/// What every handler answers.
pub(crate) type Reply<T> = Result<Json<T>, Fault>;

/// A problem on its way out.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) Problem);

impl Fault {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    pub(crate) fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let (field, detail) = (field.into(), detail.into());
        Self(Problem::new(Code::InvalidRequest, format!("{field}: {detail}")).field(field, detail))
    }

    pub(crate) fn run_not_found(id: impl std::fmt::Display) -> Self {
        Self::new(Code::RunNotFound, format!("no run {id} in this namespace; list runs with: outlive runs list"))
    }

    pub(crate) fn worker_not_found(id: impl std::fmt::Display) -> Self {
        Self::new(Code::WorkerNotFound, format!("no worker {id}; list workers with: outlive workers list"))
    }

    pub(crate) fn queue_not_found(name: &str) -> Self {
        Self::new(
            Code::QueueNotFound,
            format!("no queue {name}; a queue is made by its first run, or with: outlive queues set {name}"),
        )
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut problem = self.0;
        problem.request_id = uuid::Uuid::new_v4().simple().to_string();
        if problem.status >= 500 {
            tracing::warn!(request_id = problem.request_id, code = problem.code, detail = problem.detail, "refused");
        }
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(problem)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Full(_) => Code::StoreFull,
            _ => Code::StoreUnavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<CreateError> for Fault {
    fn from(error: CreateError) -> Self {
        let at = |index: usize, field: &str| format!("runs[{index}].{field}");
        let detail = error.to_string();
        match error {
            CreateError::KeyConflict { index, .. } => {
                let detail = format!("{detail}. Use on_conflict return or replace, or another key");
                Self(Problem::new(Code::KeyConflict, detail.clone()).field(at(index, "key"), detail))
            }
            CreateError::IdempotencyMismatch => Self::new(
                Code::IdempotencyMismatch,
                "this idempotency key was used within 24 h for another request; use a new key for a new request",
            ),
            CreateError::IdConflict { index, .. } => {
                Self(Problem::new(Code::IdConflict, detail.clone()).field(at(index, "id"), detail))
            }
            CreateError::RunNotFound { index, .. } => {
                Self(Problem::new(Code::RunNotFound, detail.clone()).field(at(index, "parent"), detail))
            }
            CreateError::WouldBeNew => Self::new(Code::StoreUnavailable, detail),
            CreateError::Store(error) => error.into(),
        }
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        let detail = error.to_string();
        match error {
            WriteError::NotFound => Self::new(Code::RunNotFound, detail),
            WriteError::Terminal(_) => {
                Self::new(Code::AlreadyTerminal, format!("{detail}; to run it again: outlive runs retry"))
            }
            WriteError::NotTerminal(_) => {
                Self::new(Code::NotTerminal, format!("{detail}; cancel it first: outlive runs cancel"))
            }
            WriteError::IdempotencyMismatch => CreateError::IdempotencyMismatch.into(),
            WriteError::NotWaiting(_) => Self::new(Code::WrongState, detail),
            WriteError::Store(error) => error.into(),
        }
    }
}

impl From<RegisterError> for Fault {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::NameInUse { name } => Self::new(
                Code::NameInUse,
                format!(
                    "worker {name} is connected from another process and answers; choose another name, \
                     or take it over with takeover (command line: --takeover)"
                ),
            ),
            RegisterError::Store(error) => error.into(),
        }
    }
}
