//! Servers, workers, clocks, networks and stores fail around live runs: nobody who lives is taken for dead, and no two attempts
//! of a run execute at once.
//!
//! ```text
//!   Stage: server, workers with guards, runs that stamp ──► Fault::strike ──► hold ──► all end ──► Seen
//!                                                              │ Rights: from whom runs may be taken   │
//!                                                              └──────────────► check ◄────────────────┘
//! ```
//!
//! Each run is one process that appends its epoch and the monotonic time to a file, each few milliseconds, for as long as it
//! executes, and prints a line each half second. So whether two attempts executed at once is in the files, and whether a dead
//! one still wrote is in the log.

mod check;
mod fault;
mod means;
mod scenario;
mod stage;

pub use check::{Finding, Rights, Seen, Tried, check};
pub use scenario::{LONG, SCENARIOS, SHORT, Scale, Scenario, named};

use crate::rng::Rng;
use outlive_core::policy::OnIsolation;
use outlive_core::stamps::spans;
use stage::Stage;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary `outlive`.
    pub binary: PathBuf,
    /// Which one.
    pub scenario: &'static Scenario,
    /// How large.
    pub scale: Scale,
    /// What agents do with work whose trust has run out. Anything but `freeze` is for those who want to see overlap.
    pub isolation: OnIsolation,
    /// By which victims and moments are chosen.
    pub seed: u64,
    /// Keeps the folder with database, logs and stamps.
    pub keep: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The plan's seed.
    pub seed: u64,
    /// Runs, attempts, stamps.
    pub counts: [usize; 3],
    /// The longest time that an attempt stood still and then went on, in milliseconds.
    pub stood_still_ms: u64,
    /// What was seen of the fault.
    pub notes: Vec<String>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Where database, logs and stamps are, if they were kept.
    pub folder: Option<PathBuf>,
}

impl Report {
    fn count(&self, of: impl Fn(&Finding) -> bool) -> usize {
        self.findings.iter().filter(|finding| of(finding)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [runs, attempts, stamps] = self.counts;
        writeln!(f, "{}, seed {}", self.scenario, self.seed)?;
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        writeln!(
            f,
            "  {runs} runs, {attempts} attempts, {stamps} stamps; the longest freeze {} ms",
            self.stood_still_ms
        )?;
        let false_kills = self.count(|x| matches!(x, Finding::FalseKill(..)));
        let stale = self.count(|x| matches!(x, Finding::StaleWrite(..)));
        let lost = self.count(|x| matches!(x, Finding::RunLost(_) | Finding::NotSucceeded(..)));
        let overlap = self.count(|x| matches!(x, Finding::Overlap(..)));
        let other = self.findings.len() - false_kills - stale - lost - overlap;
        write!(
            f,
            "  false kills {false_kills}, stale writes {stale}, runs lost {lost}, overlap {overlap}, other {other}"
        )?;
        for finding in self.findings.iter().take(20) {
            write!(f, "\n    {finding}")?;
        }
        match &self.folder {
            Some(folder) => write!(f, "\n  kept: {}", folder.display()),
            None => Ok(()),
        }
    }
}

/// Does it.
///
/// # Errors
/// What kept it from being done; what it found is in the report.
pub fn run(plan: &Plan) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let folder = tempfile::Builder::new().prefix("chaos-").tempdir().map_err(|error| format!("no folder: {error}"))?;
    let done = tokio::task::LocalSet::new().block_on(&runtime, carry_out(plan, folder.path()));
    let wrong = done.as_ref().map_or(true, |report| !report.findings.is_empty());
    let kept = if plan.keep || wrong { Some(folder.keep()) } else { None };
    match (done, kept) {
        (Ok(report), folder) => Ok(Report { folder, ..report }),
        (Err(why), Some(folder)) => Err(format!("{}: {why} (kept: {})", plan.scenario.name, folder.display())),
        (Err(why), None) => Err(why),
    }
}

async fn carry_out(plan: &Plan, folder: &std::path::Path) -> Result<Report, String> {
    let rng = Rng::new(plan.seed);
    let mut stage = Stage::set(plan.scenario, plan.scale, plan.isolation, &plan.binary, folder, rng).await?;
    plan.scenario.fault.strike(&mut stage).await?;
    tokio::time::sleep(Duration::from_secs(plan.scale.hold)).await;
    let seen = stage.end_all().await?;
    let mut findings = check(&stage.rights, &stage.runs, &seen);
    findings.extend(std::mem::take(&mut stage.doubts).into_iter().map(Finding::NoFault));
    let gaps = seen.iter().flat_map(|run| spans(&run.stamps).into_values()).map(|span| span.longest_gap / 1_000_000);
    Ok(Report {
        scenario: plan.scenario.name,
        seed: plan.seed,
        counts: [
            seen.len(),
            seen.iter().map(|run| run.attempts.len()).sum(),
            seen.iter().map(|run| run.stamps.len()).sum(),
        ],
        stood_still_ms: gaps.max().unwrap_or(0),
        notes: std::mem::take(&mut stage.notes),
        findings,
        folder: None,
    })
}
