//! The OpenAPI document, out of the handlers' own descriptions.

use crate::{routes, session};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Outlive",
        description = "A control plane for durable runs.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT")
    ),
    paths(
        routes::create::one,
        routes::create::batch,
        routes::runs::list,
        routes::runs::show,
        routes::runs::attempts,
        routes::runs::events,
        routes::runs::explain,
        routes::output::output,
        routes::actions::cancel,
        routes::actions::retry,
        routes::actions::release,
        routes::signal::signal,
        routes::actions::delete,
        routes::report::single,
        routes::register::register,
        routes::workers::list,
        routes::workers::show,
        session::open,
        routes::claim::claim,
        routes::report::batch,
        routes::workers::drain,
        routes::workers::undrain,
        routes::workers::leave,
        routes::workers::evict,
        routes::queues::list,
        routes::queues::show,
        routes::queues::put,
        routes::queues::pause,
        routes::queues::resume,
        routes::recoveries::list,
        routes::stuck::list,
        routes::server::show,
        routes::health::livez,
        routes::health::readyz,
        routes::health::metrics,
        routes::health::openapi,
    )
)]
struct Document;

/// The OpenAPI 3.1 document as JSON.
#[must_use]
pub fn openapi() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}
