//! Errors: `application/problem+json` with a stable code and a detail that says what to do.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An error as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:outlive:problem:<code>`.
    pub r#type: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: String,
    /// What happened and what to do.
    pub detail: String,
    /// For the server's log.
    #[serde(default)]
    pub request_id: String,
    /// Which fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Its path: `runs[3].kind`.
    pub field: String,
    /// What is wrong.
    pub detail: String,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// Every code with its status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable code.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The code in words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

codes! {
    /// A field or parameter is wrong.
    InvalidRequest = "invalid_request", 400, "Invalid request";
    /// The body is not JSON.
    InvalidJson = "invalid_json", 400, "Invalid JSON";
    /// No or a wrong token.
    Unauthenticated = "unauthenticated", 401, "Unauthenticated";
    /// Not allowed.
    Forbidden = "forbidden", 403, "Forbidden";
    /// The token is of another worker.
    NotOwner = "not_owner", 403, "Not the owner";
    /// A web page of another origin, or a wrong Host.
    ForeignOrigin = "foreign_origin", 403, "Foreign origin";
    /// No such run.
    RunNotFound = "run_not_found", 404, "Run not found";
    /// No such worker.
    WorkerNotFound = "worker_not_found", 404, "Worker not found";
    /// No such queue.
    QueueNotFound = "queue_not_found", 404, "Queue not found";
    /// No such path.
    NotFound = "not_found", 404, "Not found";
    /// The path knows other methods.
    MethodNotAllowed = "method_not_allowed", 405, "Method not allowed";
    /// The fence.
    LeaseLost = "lease_lost", 409, "Lease lost";
    /// The run has ended.
    AlreadyTerminal = "already_terminal", 409, "Already terminal";
    /// The run has not ended.
    NotTerminal = "not_terminal", 409, "Not terminal";
    /// The run is not in a state for this.
    WrongState = "wrong_state", 409, "Wrong state";
    /// The business key is taken.
    KeyConflict = "key_conflict", 409, "Key conflict";
    /// The client-chosen id is taken.
    IdConflict = "id_conflict", 409, "Id conflict";
    /// The worker name is taken.
    NameInUse = "name_in_use", 409, "Name in use";
    /// A newer incarnation has the name.
    SessionReplaced = "session_replaced", 409, "Session replaced";
    /// The same request is under way.
    RequestInFlight = "request_in_flight", 409, "Request in flight";
    /// A limit on size.
    TooLarge = "too_large", 413, "Too large";
    /// Not `application/json`.
    UnsupportedMediaType = "unsupported_media_type", 415, "Unsupported media type";
    /// Same key, other body.
    IdempotencyMismatch = "idempotency_mismatch", 422, "Idempotency mismatch";
    /// The input is not of its schema.
    InputInvalid = "input_invalid", 422, "Input invalid";
    /// `admission: gate`.
    NotAdmitted = "not_admitted", 422, "Not admitted";
    /// Another protocol.
    ProtocolUnsupported = "protocol_unsupported", 426, "Protocol unsupported";
    /// Slow down.
    RateLimited = "rate_limited", 429, "Rate limited";
    /// A defect of ours.
    Internal = "internal", 500, "Internal error";
    /// Try again.
    StoreUnavailable = "store_unavailable", 503, "Store unavailable";
    /// The disk.
    StoreFull = "store_full", 503, "Store full";
    /// The server stops.
    Draining = "draining", 503, "Draining";
}

impl Problem {
    /// An error with this code.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:outlive:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            code: code.as_str().to_owned(),
            detail: detail.into(),
            request_id: String::new(),
            errors: Vec::new(),
        }
    }

    /// Names a field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError { field: field.into(), detail: detail.into() });
        self
    }
}
