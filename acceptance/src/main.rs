//! `cargo xtask acceptance -- COMMAND…`: does the worker that this command starts do what a worker must do?

use outlive_acceptance::{Subject, play, scenarios};
use std::process::ExitCode;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(outlive) = args.next() else {
        eprintln!("usage: outlive-acceptance OUTLIVE COMMAND…   (OUTLIVE: the binary of that name)");
        return ExitCode::from(2);
    };
    let subject = Subject { outlive: outlive.into(), worker: args.collect() };
    let all = match scenarios() {
        Ok(all) => all,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let (mut failed, total) = (0, all.len());
    for scenario in all {
        match play(&subject, &scenario).await {
            Ok(()) => println!("ok      {}: {}", scenario.name, scenario.proves),
            Err(error) => {
                failed += 1;
                println!("FAILED  {}: {}\n{error}", scenario.name, scenario.proves);
            }
        }
    }
    println!("{total} scenarios: {} passed, {failed} failed", total - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
