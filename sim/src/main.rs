//! Plays histories: `outlive-sim --seed N [--scenario NAME] [--seeds COUNT] [--seconds S] [--log]`.
//!
//! Exit code 1 if something did not hold; what, and how to see it again, is on standard error. Histories share nothing, so
//! that they are played on all processors; what is printed is in order of seed and scenario all the same.

use outlive_sim::{Options, Report, SCENARIOS, Scenario, Twin, by_name, play};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

const USAGE: &str = "outlive-sim [--seed N] [--seeds COUNT] [--scenario NAME] [--seconds S] [--twin NAME] [--jobs N] \
[--log] [--brief] [--list]";

/// What the command line asks for.
struct Wanted {
    seed: u64,
    seeds: u64,
    seconds: u64,
    jobs: usize,
    scenario: Option<&'static Scenario>,
    twin: Twin,
    keep_log: bool,
    /// One line for each scenario instead of each history.
    brief: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let (scenario, twin) = (None, Twin::Sound);
    let mut w = Wanted { seed: 0, seeds: 1, seconds: 120, jobs, scenario, twin, keep_log: false, brief: false };
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse::<u64>().ok());
        let understood = match argument.as_str() {
            "--seed" => number().map(|n| w.seed = n),
            "--seeds" => number().map(|n| w.seeds = n),
            "--seconds" => number().map(|n| w.seconds = n),
            "--jobs" => number().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0).map(|n| w.jobs = n),
            "--scenario" => arguments.next().and_then(|name| by_name(&name)).map(|s| w.scenario = Some(s)),
            "--twin" => {
                let name = arguments.next().unwrap_or_default();
                Twin::BROKEN.into_iter().find(|t| format!("{t:?}") == name).map(|t| w.twin = t)
            }
            "--log" => {
                w.keep_log = true;
                Some(())
            }
            "--brief" => {
                w.brief = true;
                Some(())
            }
            "--list" => {
                SCENARIOS.iter().for_each(|s| println!("{:<24} {}", s.name, s.about));
                return ExitCode::SUCCESS;
            }
            _ => None,
        };
        if understood.is_none() {
            eprintln!("{argument} is not understood\n{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::from(u8::from(!all_hold(&w)))
}

/// Plays all that is wanted; whether everything held.
fn all_hold(wanted: &Wanted) -> bool {
    let scenarios = || SCENARIOS.iter().filter(|s| wanted.scenario.is_none_or(|only| only.name == s.name));
    let histories: Vec<Options> = (wanted.seed..wanted.seed + wanted.seeds)
        .flat_map(|seed| scenarios().map(move |scenario| (seed, scenario)))
        .filter(|(seed, scenario)| wanted.scenario.is_some() || seed.is_multiple_of(scenario.every))
        .map(|(seed, scenario)| Options {
            seed,
            scenario,
            twin: wanted.twin,
            duration: wanted.seconds * 1_000,
            keep_log: wanted.keep_log,
        })
        .collect();
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    let mut hold = true;
    in_order(&histories, wanted.jobs, |report| {
        report.log.iter().filter(|_| wanted.keep_log).for_each(|line| println!("{line}"));
        sums.entry(report.scenario).or_default().add(&report);
        if !wanted.brief {
            println!("{}", line_of(&report));
        }
        if report.failure.is_some() {
            eprintln!("{}", report.explain());
            hold = false;
        }
    });
    if wanted.brief {
        println!("{} histories", sums.values().map(|sum| sum.histories).sum::<u64>());
        scenarios().filter_map(|s| sums.get_key_value(s.name)).for_each(|(name, sum)| println!("{name:<24} {sum}"));
    }
    hold
}

/// Plays histories on so many threads and shows their reports in order.
fn in_order(histories: &[Options], jobs: usize, mut show: impl FnMut(Report)) {
    let next = AtomicUsize::new(0);
    let (done, reports) = mpsc::sync_channel(jobs);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, done) = (&next, done.clone());
            scope.spawn(move || {
                while let Some((n, options)) = take(histories, next) {
                    if done.send((n, play(options))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let (mut waiting, mut shown) = (BTreeMap::new(), 0);
        for (n, report) in reports {
            waiting.insert(n, report);
            while let Some(report) = waiting.remove(&shown) {
                show(report);
                shown += 1;
            }
        }
    });
}

fn take(histories: &[Options], next: &AtomicUsize) -> Option<(usize, Options)> {
    let n = next.fetch_add(1, Ordering::Relaxed);
    histories.get(n).map(|options| (n, *options))
}

fn line_of(report: &Report) -> String {
    format!(
        "seed {} {:<24} {} s, {} events, {} runs, {} lost ({} by absence), log {:016x}",
        report.seed,
        report.scenario,
        report.simulated / 1_000,
        report.steps,
        report.runs,
        report.counts.losses,
        report.counts.by_absence,
        report.digest
    )
}

/// Of all histories of a scenario.
#[derive(Default)]
struct Sum {
    histories: u64,
    failed: u64,
    simulated: u64,
    runs: usize,
    losses: u64,
    by_absence: u64,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.histories += 1;
        self.failed += u64::from(report.failure.is_some());
        self.simulated += report.simulated;
        self.runs += report.runs;
        self.losses += report.counts.losses;
        self.by_absence += report.counts.by_absence;
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { histories, failed, simulated, runs, losses, by_absence } = self;
        let minutes = simulated / 60_000;
        write!(
            f,
            "{histories} histories, {failed} failed, {minutes} min, {runs} runs, {losses} lost ({by_absence} by absence)"
        )
    }
}
