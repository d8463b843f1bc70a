//! `outlive openapi`: the HTTP contract as a document.

use super::Done;
use crate::exit::Exit;
use crate::render::print;

/// Print the OpenAPI 3.1 document of the HTTP interface
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  outlive openapi > openapi.json
")]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Done {
    print(outlive_server::openapi().trim_end())?;
    Ok(Exit::Ok)
}
