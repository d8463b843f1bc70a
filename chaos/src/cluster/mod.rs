//! Replicas over one PostgreSQL, workers, the database and the network between them fail under load, for as long as you like.
//!
//! ```text
//!   Dealer (a seed) ──► strike ──► everything answers again ──► pause ──► strike …        Crowd: clients, pollers, readers
//!                         │ Ledger: what was done to whom, and when                         │ History: what was answered
//!                         └──────────────────────► check ◄── Seen: runs, logs, stamps ◄─────┘
//! ```
//!
//! The commands print bytes that follow from a seed, stamp while they execute, and note which checkpoints were acknowledged;
//! so nobody's word is needed for what executed when, for what must be in a log, and for what must not be lost.
//!
//! | file | what |
//! |---|---|
//! | [`schedule`] | what is done to whom, from a seed |
//! | `stage` | the processes, and what is between them |
//! | `strike` | how each blow is dealt |
//! | [`ledger`] | what was done, and what that explains |
//! | `clients` | who asks, polls, reads and follows meanwhile |
//! | `sampler` | looks into the store |
//! | `collect` | what is there at the end |
//! | [`mod@check`] | what must hold |
//! | [`report`] | what came of it |
//! | [`twin`] | broken ones, which the check must find |

pub mod check;
mod clients;
mod collect;
pub mod ledger;
pub mod report;
mod sampler;
pub mod schedule;
mod stage;
mod strike;
pub mod twin;

use crate::read;
use crate::rng::Rng;
use check::{Facts, Finding, Seen, check};
use clients::{Crowd, WARM};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use outlive_api::clock::nanos;
use outlive_core::RunId;
use outlive_core::policy::QueuePolicy;
use report::Report;
use schedule::{Blow, Dealer, Step};
use stage::{CAP, Stage};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use twin::Twin;

/// What is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary `outlive`.
    pub binary: PathBuf,
    /// By which blows, victims and the load are chosen.
    pub seed: u64,
    /// For how long.
    pub length: Length,
    /// Replicas reach the database through a pgbouncer in transaction mode.
    pub pgbouncer: bool,
    /// The database, and the pgbouncer, refuse what is not TLS; replicas check the certificate.
    pub tls: bool,
    /// What is broken, to see whether it is found.
    pub twins: Vec<Twin>,
    /// Keeps the folder with logs and stamps.
    pub keep: bool,
}

/// For how long blows are dealt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many blows, one after the other, after the first ones of the seed: the tests' form.
    Blows {
        /// Of the seed, these are left out.
        skip: usize,
        /// So many.
        take: usize,
    },
    /// These, one after the other.
    These(Vec<Blow>),
    /// So many minutes, some blows two at a time.
    Minutes(u64),
}

/// One in so many steps has two blows, where there is time for that.
const PAIRS: u64 = 3;
/// Everything must have ended this long after the last blow.
const DRAIN: Duration = Duration::from_mins(3);
/// So many runs are read at once at the end: an hour leaves tens of thousands.
const AT_ONCE: usize = 16;
/// Between looks at whether it has.
const LOOK: Duration = Duration::from_millis(250);

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
    // What was broken on purpose is no news.
    let kept = if plan.keep || (wrong && plan.twins.is_empty()) { Some(folder.keep()) } else { None };
    match (done, kept) {
        (Ok(report), Some(folder)) => {
            let report = Report { folder: Some(folder.clone()), ..report };
            std::fs::write(folder.join("report"), report.to_string()).map_err(|e| format!("no report: {e}"))?;
            Ok(report)
        }
        (Ok(report), None) => Ok(report),
        (Err(why), Some(folder)) => Err(format!("{why} (kept: {})", folder.display())),
        (Err(why), None) => Err(why),
    }
}

async fn carry_out(plan: &Plan, folder: &Path) -> Result<Report, String> {
    let mut rng = Rng::new(plan.seed);
    std::fs::create_dir(folder.join("runs")).map_err(|error| format!("no folder: {error}"))?;
    let stage = Rc::new(Stage::set(plan, folder, &mut rng).await?);
    let (looks, looking) = sampler::start(&stage);
    let crowd = Crowd::new(&stage, &plan.twins);
    let tasks = crowd.start(&mut rng);
    stage.until("there is load", async |_| crowd.load.created() >= WARM).await?;
    let begun = nanos();
    let elapsed = move || Duration::from_nanos(nanos() - begun);
    let dealt: Box<dyn Iterator<Item = Step>> = match &plan.length {
        Length::Blows { skip, take } => Box::new(Dealer::new(plan.seed, 0).skip(*skip).take(*take)),
        Length::These(blows) => Box::new(blows.iter().map(|blow| Step { blows: vec![blow.clone()], pause: 0 })),
        Length::Minutes(minutes) => {
            let until = Duration::from_mins(*minutes);
            Box::new(Dealer::new(plan.seed, PAIRS).take_while(move |_| elapsed() < until))
        }
    };
    let mut findings = Vec::new();
    let mut blows = 0;
    for step in dealt {
        blows += step.blows.len();
        if let Err(why) = strike::strike(&stage, &step).await {
            // What does not come back is wrong, and nothing more can be done to it.
            findings.push(Finding::NotSettled(why));
            break;
        }
    }
    let seconds = elapsed().as_secs();
    crowd.load.ask_no_more();
    let seen = collect(&stage, &crowd).await?;
    crowd.load.stop();
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    looking.abort();
    let recoveries = collect::recoveries(&stage.client).await?;
    let history = crowd.load.history();
    let facts = Facts {
        history,
        ledger: stage.ledger.borrow().clone(),
        feed: crowd.feed.borrow().clone(),
        followed: crowd.followed.borrow().clone(),
        recoveries,
        excesses: looks.excesses.borrow().clone(),
        lease_ttl: QueuePolicy::default().lease_ttl,
        cap: CAP,
    };
    let (wrong, worst) = check(&facts, &seen);
    findings.extend(wrong);
    findings.extend(stage.doubts.borrow().iter().cloned().map(Finding::NoBlow));
    let losses = seen.iter().flat_map(|one| &one.attempts).filter(|tried| check::is_loss(tried)).count();
    Ok(Report {
        seed: plan.seed,
        seconds,
        blows,
        notes: stage.notes.borrow().clone(),
        counts: [
            seen.len(),
            seen.iter().map(|run| run.attempts.len()).sum(),
            seen.iter().map(|run| run.stamps.len()).sum(),
        ],
        losses,
        acknowledged: [
            facts.history.created.len(),
            facts.history.frames.len(),
            facts.history.finishes.len(),
            facts.history.cancels.len(),
        ],
        told: [crowd.load.repeated(), crowd.resumed.get(), facts.followed.len() as u64, looks.taken.get()],
        sprayed: stage.balancer.answered(),
        worst,
        findings,
        folder: None,
    })
}

/// Waits until every run has ended and the feed has told it, or long enough; then reads everything.
async fn collect(stage: &Stage, crowd: &Crowd) -> Result<Vec<Seen>, String> {
    let over = async {
        loop {
            let runs = read::all(&stage.client).await;
            let told = |id: &RunId| crowd.feed.borrow().contains_key(id);
            if runs.is_ok_and(|runs| runs.iter().all(|run| run.state.is_terminal() && told(&run.id))) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    // What has not ended by then is for the check to find.
    drop(tokio::time::timeout(DRAIN, over).await);
    let runs = read::all(&stage.client).await?;
    stream::iter(&runs).map(|run| collect::one(crowd, run)).buffered(AT_ONCE).try_collect().await
}
