//! Plays histories: `outlive-sim --seed N [--scenario NAME] [--seeds COUNT] [--seconds S] [--log]`.
//!
//! Exit code 1 if something did not hold; what, and how to see it again, is on standard error.

use outlive_sim::{Options, SCENARIOS, Twin, by_name, play};
use std::process::ExitCode;

const USAGE: &str =
    "outlive-sim [--seed N] [--seeds COUNT] [--scenario NAME] [--seconds S] [--twin NAME] [--log] [--list]";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seed, mut seeds, mut seconds, mut keep_log, mut scenario) = (0, 1, 120, false, None);
    let mut twin = Twin::Sound;
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse::<u64>().ok());
        let understood = match argument.as_str() {
            "--seed" => number().map(|n| seed = n),
            "--seeds" => number().map(|n| seeds = n),
            "--seconds" => number().map(|n| seconds = n),
            "--scenario" => arguments.next().and_then(|name| by_name(&name)).map(|s| scenario = Some(s)),
            "--twin" => {
                let name = arguments.next().unwrap_or_default();
                Twin::BROKEN.into_iter().find(|t| format!("{t:?}") == name).map(|t| twin = t)
            }
            "--log" => {
                keep_log = true;
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
    let mut failed = false;
    for seed in seed..seed + seeds {
        for scenario in SCENARIOS.iter().filter(|s| scenario.is_none_or(|wanted| wanted.name == s.name)) {
            let report = play(Options { seed, scenario, twin, duration: seconds * 1_000, keep_log });
            if keep_log {
                report.log.iter().for_each(|line| println!("{line}"));
            }
            println!(
                "seed {seed} {:<24} {} s, {} events, {} runs, {} lost ({} by absence), log {:016x}",
                scenario.name,
                report.simulated / 1_000,
                report.steps,
                report.runs,
                report.counts.losses,
                report.counts.by_absence,
                report.digest
            );
            if report.failure.is_some() {
                eprintln!("{}", report.explain());
                failed = true;
            }
        }
    }
    ExitCode::from(u8::from(failed))
}
