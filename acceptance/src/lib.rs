//! What a worker must do, whatever its language: scenarios as data, and what plays them.
//!
//! ```text
//!   scenario (yaml) ─► Stage ─┬─ the real server, a process ◄──────────────┐
//!                             ├─ Wire: between server and worker; it holds │ and loses what a scenario says
//!                             ├─ the worker under test, a process ─────────┘
//!                             └─ a rival: another worker, played here
//! ```
//!
//! A scenario waits for states and compares what people can see: runs, their output, and the marks that the work left in
//! a file with its epoch. After every scenario it is checked that no attempt left a mark after its successor's first one.
//! `README.md` says what a worker is given.

mod scenario;
mod stage;
mod wire;

pub use scenario::{Scenario, Step, scenarios};

use std::path::PathBuf;

/// What is tested, and with what.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The binary `outlive`: the server, and `outlive step` for commands.
    pub outlive: PathBuf,
    /// The command line that starts the worker.
    pub worker: Vec<String>,
}

/// Why a scenario did not hold.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// A scenario that cannot be read.
    #[error("the scenario {name} cannot be read: {detail}")]
    Scenario {
        /// Which.
        name: String,
        /// Why.
        detail: String,
    },
    /// Something that the play needs.
    #[error("{0}")]
    Stage(String),
    /// Two attempts of one run were at work at once.
    #[error("{0}")]
    Overlap(String),
    /// A step did not come true.
    #[error("step {number} ({step}): {detail}")]
    Step {
        /// From 1.
        number: usize,
        /// The step.
        step: String,
        /// What was seen instead.
        detail: String,
    },
}

/// Plays one scenario to its end.
///
/// # Errors
/// What did not hold, with what the worker and the server said.
pub async fn play(subject: &Subject, scenario: &Scenario) -> Result<(), Failed> {
    let mut stage = stage::Stage::open(subject, scenario).await?;
    for (index, step) in scenario.steps.iter().enumerate() {
        if let Err(detail) = stage.step(step).await {
            let detail = format!("{detail}\n{}", stage.said());
            return Err(Failed::Step { number: index + 1, step: format!("{step:?}"), detail });
        }
    }
    stage.no_overlap().map_err(|detail| Failed::Overlap(format!("{detail}\n{}", stage.said())))
}
