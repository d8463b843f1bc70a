//! What came of it, for people.

use super::check::{Finding, Worst};
use outlive_core::Millis;
use std::fmt;
use std::path::PathBuf;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The plan's seed.
    pub seed: u64,
    /// How long blows were dealt, in seconds.
    pub seconds: u64,
    /// Blows that were dealt.
    pub blows: usize,
    /// What was seen, in order.
    pub notes: Vec<String>,
    /// Runs, attempts, stamps.
    pub counts: [usize; 3],
    /// Losses that a blow explains.
    pub losses: usize,
    /// Acknowledged: creations, frames, ends, cancels.
    pub acknowledged: [usize; 4],
    /// Repeated calls, streams that were opened again, logs that were followed to their end, looks into the store.
    pub told: [u64; 4],
    /// Requests that each replica answered through the balancer.
    pub sprayed: Vec<u64>,
    /// Recoveries.
    pub worst: Worst,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Where logs and stamps are, if they were kept.
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
        let [created, frames, ends, cancels] = self.acknowledged;
        let [repeated, resumed, followed, looks] = self.told;
        writeln!(f, "seed {}: {} blows in {} s", self.seed, self.blows, self.seconds)?;
        writeln!(
            f,
            "{runs} runs, {attempts} attempts, {stamps} stamps; {} losses, each explained by a blow",
            self.losses
        )?;
        writeln!(
            f,
            "acknowledged: {created} creations, {frames} frames, {ends} ends, {cancels} cancels; {repeated} calls repeated"
        )?;
        writeln!(
            f,
            "{followed} logs followed to their end, {resumed} streams opened again, {looks} looks into the store"
        )?;
        writeln!(f, "answered through the balancer by each replica: {:?}", self.sprayed)?;
        let nearest = |worst: Option<(Millis, Millis)>| {
            worst.map_or_else(|| "none".to_owned(), |(took, allowed)| format!("{took} of {allowed}"))
        };
        let Worst { many, calm, troubled } = self.worst;
        writeln!(
            f,
            "{many} recoveries; nearest to the bound: {}, and {} in trouble",
            nearest(calm),
            nearest(troubled)
        )?;
        let false_kills = self.count(|x| matches!(x, Finding::FalseKill(..)));
        let stale = self.count(|x| matches!(x, Finding::StaleWrite(..)));
        let overlap = self.count(|x| matches!(x, Finding::Overlap(..)));
        let limits =
            self.count(|x| matches!(x, Finding::CapExceeded(..) | Finding::SerialBroken(..) | Finding::Excess(_)));
        let other = self.findings.len() - false_kills - stale - overlap - limits;
        write!(
            f,
            "false kills {false_kills}, stale writes {stale}, overlap {overlap}, limits broken {limits}, other {other}"
        )?;
        for finding in self.findings.iter().take(30) {
            write!(f, "\n  {finding}")?;
        }
        match &self.folder {
            Some(folder) => write!(f, "\nkept: {}", folder.display()),
            None => Ok(()),
        }
    }
}
