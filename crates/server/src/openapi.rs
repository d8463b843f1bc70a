//! The OpenAPI document, out of the handlers' own descriptions.

use crate::{routes, session};
use utoipa::openapi::{Content, RefOr};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Outlive",
        description = "A control plane for durable runs.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT")
    ),
    modifiers(&ProblemMedia),
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
        routes::subjects::show,
        routes::events::events,
        routes::server::show,
        routes::echo::open,
        routes::health::livez,
        routes::health::readyz,
        routes::health::metrics,
        routes::health::openapi,
    )
)]
struct Document;

/// Every problem is `application/problem+json`, said in one place.
struct ProblemMedia;

impl Modify for ProblemMedia {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let methods =
            document.paths.paths.values_mut().flat_map(|item| {
                [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
            });
        for response in methods.flat_map(|method| method.responses.responses.values_mut()) {
            let RefOr::T(response) = response else { continue };
            if response.content.get("application/json").is_some_and(is_problem)
                && let Some(problem) = response.content.shift_remove("application/json")
            {
                response.content.insert(outlive_api::problem::MEDIA_TYPE.to_owned(), problem);
            }
        }
    }
}

fn is_problem(content: &RefOr<Content>) -> bool {
    let RefOr::T(content) = content else { return false };
    matches!(&content.schema, Some(RefOr::Ref(schema)) if schema.ref_location.ends_with("/Problem"))
}

/// The OpenAPI 3.1 document as JSON.
#[must_use]
pub fn openapi() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}
