//! Every worker that is in this repository does what a worker must do; workers that do not are found out.

use outlive_acceptance::{Failed, Scenario, Subject, play, scenarios};
use std::sync::Mutex;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
const TWINS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/twins");
const OUTLIVE: &str = env!("CARGO_BIN_EXE_outlive");

fn subject(worker: &[&str]) -> Subject {
    Subject { outlive: OUTLIVE.into(), worker: worker.iter().map(|&word| word.to_owned()).collect() }
}

fn scenario(name: &str) -> Scenario {
    scenarios().unwrap().into_iter().find(|s| s.name == name).unwrap()
}

/// So many at once: a scenario mostly waits, but a worker that cannot beat in time is rightly written off.
const AT_ONCE: usize = 5;
/// Workers that fail mostly wait for what does not come.
const TWINS_AT_ONCE: usize = 17;

/// Plays them; what became of each.
fn play_all(at_once: usize, plays: Vec<(String, Subject, Scenario)>) -> Vec<(String, Result<(), Failed>)> {
    let (waiting, done) = (Mutex::new(plays), Mutex::new(Vec::new()));
    let one = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        loop {
            let next = waiting.lock().unwrap().pop();
            let Some((name, subject, scenario)) = next else { return };
            let played = runtime.block_on(play(&subject, &scenario));
            done.lock().unwrap().push((name, played));
        }
    };
    std::thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(one))));
    done.into_inner().unwrap()
}

fn does_it_all(worker: &[&str]) {
    let plays = scenarios().unwrap().into_iter().map(|s| (s.name.clone(), subject(worker), s)).collect();
    let played = play_all(AT_ONCE, plays).into_iter();
    let failed: Vec<_> = played.filter_map(|(name, p)| p.err().map(|e| format!("{name}: {e}\n"))).collect();
    assert!(failed.is_empty(), "{}", failed.concat());
}

#[test]
fn the_agent_does_what_a_worker_must_do() {
    does_it_all(&[OUTLIVE, "worker"]);
}

#[test]
fn the_worker_in_python_does_what_a_worker_must_do() {
    does_it_all(&["python3", &format!("{EXAMPLES}/worker.py")]);
}

#[test]
fn the_worker_in_bash_does_what_a_worker_must_do() {
    does_it_all(&["bash", &format!("{EXAMPLES}/worker.sh")]);
}

/// The twin is the example with one line changed: `twins/twin.py` names the lines.
#[test]
fn each_scenario_finds_the_worker_that_does_not_do_it() {
    let twins = [
        ("claim", "output_is_forgotten"),
        ("beat", "never_beats"),
        ("fence", "ignores_the_fence"),
        ("fence", "never_freezes"),
        ("cancel", "ignores_a_cancel"),
        ("cancel", "kills_at_once"),
        ("cancel-stubborn", "never_kills"),
        ("checkpoint", "forgets_the_checkpoint"),
        ("checkpoint", "ends_before_its_checkpoint"),
        ("crash", "forgets_the_checkpoint"),
        ("lost-claim", "a_new_request_id_on_retry"),
        ("lost-output", "a_new_seq_on_retry"),
        ("lost-end", "gives_up_at_once"),
        ("drain", "dies_of_term"),
        ("replaced", "does_not_end"),
        ("server-restart", "gives_up_at_once"),
        ("server-replaced", "never_registers_again"),
    ];
    let plays = twins.map(|(name, twin)| {
        let worker = subject(&["python3", &format!("{TWINS}/twin.py"), &format!("{EXAMPLES}/worker.py"), twin]);
        (format!("{name} does not find a worker that {twin}"), worker, scenario(name))
    });
    let found = |p: &Result<(), Failed>| matches!(p, Err(Failed::Step { .. } | Failed::Overlap(_)));
    let missed: Vec<_> =
        play_all(TWINS_AT_ONCE, plays.into()).into_iter().filter(|(_, played)| !found(played)).collect();
    assert!(missed.is_empty(), "{missed:?}");
    let without: Vec<_> =
        scenarios().unwrap().into_iter().filter(|s| !twins.iter().any(|(name, _)| *name == s.name)).collect();
    assert!(without.is_empty(), "no twin for {without:?}");
}
