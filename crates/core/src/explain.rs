//! Why a run waits: the predicates of claim and sweep, as stable codes and sentences.

use crate::class::{MatchClass, Mismatch, WorkerProfile};
use crate::run::Run;
use crate::state::{Reason, State};
use crate::time::{Millis, Wall};
use serde::Serialize;

/// One cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// A stable code of the HTTP contract.
    pub code: &'static str,
    /// One sentence that names what is missing.
    pub detail: String,
}

/// A worker as the question sees it.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// What it offers.
    pub profile: &'a WorkerProfile,
    /// It is online and takes new work.
    pub takes_work: bool,
    /// Free slots.
    pub free: u32,
}

/// What else decides.
#[derive(Clone, Copy, Debug)]
pub struct QueueFacts {
    /// No claims.
    pub paused: bool,
    /// Runs leased now.
    pub running: i64,
    /// The cap.
    pub max_running: Option<u32>,
    /// The queue limits its rate, and the last claim found it used up.
    pub rated: bool,
}

/// What keeps a run where it is; nothing if the next claim takes it.
#[must_use]
pub fn explain(
    run: &Run,
    note: Option<&str>,
    class: &MatchClass,
    workers: &[Candidate<'_>],
    queue: QueueFacts,
) -> Vec<Cause> {
    let cause = |code, detail: String| vec![Cause { code, detail }];
    let asked = note.filter(|_| run.reason == Some(Reason::LeaseReleased));
    match run.state {
        State::Held => {
            let why = run.reason.map_or("its creator asked for it", Reason::text);
            let why = asked.map_or_else(|| why.to_owned(), |note| format!("the work asked: {note}"));
            cause(
                "held",
                format!("it waits for a release because {why}; release it with: outlive runs release {}", run.id),
            )
        }
        State::Scheduled => {
            let why = asked.map_or_else(String::new, |note| format!(" because the work asked: {note}"));
            cause("scheduled_later", format!("it waits for its time{why}"))
        }
        State::Queued => queued(run, class, workers, queue),
        _ => Vec::new(),
    }
}

fn queued(run: &Run, class: &MatchClass, workers: &[Candidate<'_>], queue: QueueFacts) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut push = |code, detail: String| causes.push(Cause { code, detail });
    if queue.paused {
        push("queue_paused", format!("queue {} is paused; resume it with: outlive queues resume {0}", class.queue));
    }
    if run.blocked && run.serial_key.is_some() {
        let key = run.serial_key.as_deref().unwrap_or_default();
        push("serial_key_busy", format!("another run with serial key \"{key}\" goes first"));
    } else if run.blocked {
        push("key_busy", "the run that it replaces has not ended yet".to_owned());
    }
    if let Some(cap) = queue.max_running.filter(|&cap| queue.running >= i64::from(cap)) {
        push("queue_cap", format!("queue {} runs {} of at most {cap}", class.queue, queue.running));
    }
    if let Some((code, detail)) = unmatched(class, workers) {
        push(code, detail);
    }
    if causes.is_empty() && queue.rated {
        causes.push(Cause { code: "rate_limited", detail: format!("queue {} is at its rate", class.queue) });
    }
    causes
}

/// Why no worker can take runs of this class now; none if one can.
#[must_use]
pub fn unmatched(class: &MatchClass, workers: &[Candidate<'_>]) -> Option<(&'static str, String)> {
    let live: Vec<_> = workers.iter().filter(|w| w.takes_work).collect();
    if let Some(pin) = &class.pin {
        let Some(named) = workers.iter().find(|w| w.profile.name == *pin) else {
            return Some(("pin_unknown", format!("it is pinned to worker {pin}, which has never registered")));
        };
        if !named.takes_work {
            return Some(("pin_offline", format!("it is pinned to worker {pin}, which takes no work now")));
        }
        return match named.profile.can_take(class) {
            Ok(()) if named.free == 0 => {
                Some(("pin_busy", format!("it is pinned to worker {pin}, whose slots are all busy")))
            }
            Ok(()) => None,
            Err(mismatch) => Some(lacking(class, &mismatch, 1)),
        };
    }
    let fits: Vec<_> = live.iter().filter(|w| w.profile.can_take(class).is_ok()).collect();
    if fits.iter().any(|w| w.free > 0) {
        return None;
    }
    if !fits.is_empty() {
        let slots: u32 = fits.iter().map(|w| w.profile.slots).sum();
        return Some((
            "all_slots_busy",
            format!("all {slots} slots of the {} workers that could take it are busy", fits.len()),
        ));
    }
    // The furthest that any live worker gets is what is missing.
    let depth = |m: &Mismatch| match m {
        Mismatch::Queue => 0,
        Mismatch::Pin => 1,
        Mismatch::Kind => 2,
        Mismatch::Label(..) => 3,
    };
    let nearest = live.iter().filter_map(|w| w.profile.can_take(class).err()).max_by_key(depth);
    Some(match nearest {
        Some(mismatch) => lacking(class, &mismatch, live.len()),
        None => ("no_worker_for_queue", "no worker is online; start one with: outlive worker".to_owned()),
    })
}

fn lacking(class: &MatchClass, mismatch: &Mismatch, live: usize) -> (&'static str, String) {
    match mismatch {
        Mismatch::Queue | Mismatch::Pin => {
            ("no_worker_for_queue", format!("none of {live} live workers takes from queue {}", class.queue))
        }
        Mismatch::Kind => {
            let hint = if class.kind == "exec" { "; workers run commands only with --allow-exec" } else { "" };
            ("no_worker_for_kind", format!("none of {live} live workers handles kind {}{hint}", class.kind))
        }
        Mismatch::Label(k, v) => ("requirements_unmatched", format!("needs {k}={v}; 0 of {live} live workers have it")),
    }
}

/// A kind of stuck with its sentence and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckFact {
    /// `silent`, `stalled`, `overdue`, `starved`, `unacked_cancel`, `crash_loop`.
    pub kind: &'static str,
    /// What is missing.
    pub why: String,
    /// Since when.
    pub since: Wall,
}

/// What is known about a leased run's worker and clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseFacts {
    /// The worker is not heard: since how long.
    pub silent_for: Option<Millis>,
    /// How soon after its claim it must have started.
    pub start_timeout: Option<Millis>,
    /// The attempt's longest run.
    pub run_timeout: Option<Millis>,
    /// The limit on standing still.
    pub progress_timeout: Option<Millis>,
    /// Since the last progress, output or checkpoint, in observed time.
    pub still_for: Millis,
    /// When somebody asked for its end.
    pub cancel_requested_at: Option<Wall>,
    /// Between TERM and KILL.
    pub cancel_grace: Millis,
}

/// What a worker may take to confirm a cancel beside the grace of its process.
const CANCEL_MARGIN: Millis = Millis::secs(5);
/// A queued run is starved when nobody could take it for this long.
const STARVED_AFTER: Millis = Millis::secs(5);

/// Whether a run is stuck.
#[must_use]
pub fn stuck(run: &Run, causes: &[Cause], lease: LeaseFacts, now: Wall) -> Option<StuckFact> {
    let fact = |kind, why: String, since| Some(StuckFact { kind, why, since });
    match run.state {
        State::Held if run.reason == Some(Reason::CrashLoop) => {
            let since = run.claimed_at.unwrap_or(run.created_at);
            fact("crash_loop", format!("it lost {} workers in a row and is quarantined", run.losses_in_row), since)
        }
        State::Queued => {
            let since = run.queued_at.unwrap_or(run.created_at);
            let nobody = |c: &&Cause| {
                matches!(
                    c.code,
                    "no_worker_for_queue"
                        | "no_worker_for_kind"
                        | "requirements_unmatched"
                        | "pin_unknown"
                        | "pin_offline"
                        | "queue_paused"
                )
            };
            let cause = causes.iter().find(nobody).filter(|_| now.since(since) >= STARVED_AFTER)?;
            fact("starved", cause.detail.clone(), since)
        }
        State::Cancelling => {
            let since = lease.cancel_requested_at?;
            let waited = now.since(since);
            if waited <= lease.cancel_grace + CANCEL_MARGIN {
                return None;
            }
            let silent = lease.silent_for.map_or_else(String::new, |silent| format!(", and is silent for {silent}"));
            fact("unacked_cancel", format!("its worker has not confirmed the cancel for {waited}{silent}"), since)
        }
        State::Claimed | State::Running => {
            let since = run.started_at.or(run.claimed_at).unwrap_or(run.created_at);
            if let Some(silent) = lease.silent_for {
                return fact("silent", format!("nothing has been heard from its worker for {silent}"), now - silent);
            }
            if let Some(limit) = lease.progress_timeout.filter(|limit| lease.still_for > limit.percent(50)) {
                let why = format!("no progress, output or checkpoint for {} of at most {limit}", lease.still_for);
                return fact("stalled", why, now - lease.still_for);
            }
            let (limit, what) = match run.started_at {
                Some(_) => (lease.run_timeout?, "run_timeout"),
                None => (lease.start_timeout?, "start_timeout"),
            };
            if now.since(since) <= limit.percent(80) {
                return None;
            }
            fact("overdue", format!("it has used 80 % of its {what}, {limit}"), since)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn profile(name: &str) -> WorkerProfile {
        WorkerProfile {
            namespace: "default".into(),
            name: name.into(),
            queues: ["default".to_owned()].into(),
            kinds: ["exec".to_owned()].into(),
            labels: BTreeMap::new(),
            slots: 2,
        }
    }

    fn class() -> MatchClass {
        MatchClass {
            namespace: "default".into(),
            queue: "default".into(),
            kind: "exec".into(),
            requires: BTreeMap::new(),
            pin: None,
        }
    }

    fn run(state: State) -> Run {
        let new = crate::run::begin::NewRun {
            id: crate::RunId(uuid::Uuid::from_u128(7)),
            class: crate::ClassId(1),
            queue: crate::QueueId(1),
            priority: 0,
            run_at: None,
            hold: false,
            serial_key: None,
            key: None,
            queue_ttl: None,
        };
        let mut run = Run::create(new, &crate::policy::QueuePolicy::default(), Wall(0));
        run.state = state;
        run.claimed_at = state.is_leased().then_some(Wall(0));
        run.started_at = (state.is_leased() && state != State::Claimed).then_some(Wall(0));
        run
    }

    /// One case for each kind: the last moment at which a run is not stuck, and the first at which it is.
    #[test]
    fn each_kind_of_stuck_begins_at_its_moment() {
        let kind = |run: &Run, causes: &[Cause], facts: LeaseFacts, at: i64| {
            stuck(run, causes, facts, Wall(at)).map(|fact| (fact.kind, fact.since))
        };
        let facts = LeaseFacts {
            start_timeout: Some(Millis(1_000)),
            run_timeout: Some(Millis(10_000)),
            cancel_grace: Millis::secs(10),
            ..LeaseFacts::default()
        };
        let running = run(State::Running);
        assert_eq!(kind(&running, &[], facts, 8_000), None);
        assert_eq!(kind(&running, &[], facts, 8_001), Some(("overdue", Wall(0))));
        let claimed = run(State::Claimed);
        assert_eq!(kind(&claimed, &[], facts, 800), None);
        assert_eq!(kind(&claimed, &[], facts, 801), Some(("overdue", Wall(0))));

        let still = |ms| LeaseFacts { progress_timeout: Some(Millis(2_000)), still_for: Millis(ms), ..facts };
        assert_eq!(kind(&running, &[], still(1_000), 5_000), None);
        assert_eq!(kind(&running, &[], still(1_001), 5_000), Some(("stalled", Wall(3_999))));
        let silent = LeaseFacts { silent_for: Some(Millis(700)), ..still(1_001) };
        assert_eq!(kind(&running, &[], silent, 5_000), Some(("silent", Wall(4_300))), "the worst first");

        let asked = LeaseFacts { cancel_requested_at: Some(Wall(100)), ..facts };
        let cancelling = run(State::Cancelling);
        assert_eq!(kind(&cancelling, &[], asked, 15_100), None);
        assert_eq!(kind(&cancelling, &[], asked, 15_101), Some(("unacked_cancel", Wall(100))));

        let queued = run(State::Queued);
        let because = |code| vec![Cause { code, detail: "why".to_owned() }];
        assert_eq!(kind(&queued, &because("pin_unknown"), facts, 4_999), None);
        assert_eq!(kind(&queued, &because("pin_unknown"), facts, 5_000), Some(("starved", Wall(0))));
        for moves in ["all_slots_busy", "queue_cap", "rate_limited", "serial_key_busy", "key_busy", "pin_busy"] {
            assert_eq!(kind(&queued, &because(moves), facts, 90_000), None, "{moves} passes");
        }

        let mut held = run(State::Held);
        assert_eq!(kind(&held, &[], facts, 90_000), None);
        held.reason = Some(Reason::CrashLoop);
        assert_eq!(kind(&held, &[], facts, 90_000), Some(("crash_loop", Wall(0))));
    }

    #[test]
    fn what_waits_for_itself_says_for_what() {
        let p = profile("w");
        let workers = [Candidate { profile: &p, takes_work: true, free: 1 }];
        let open = QueueFacts { paused: false, running: 2, max_running: None, rated: false };
        let codes = |run: &Run, facts| -> Vec<&'static str> {
            explain(run, None, &class(), &workers, facts).iter().map(|cause| cause.code).collect()
        };
        let queued = run(State::Queued);
        assert_eq!(codes(&queued, open), [""; 0], "the next claim takes it");
        assert_eq!(codes(&queued, QueueFacts { paused: true, ..open }), ["queue_paused"]);
        assert_eq!(codes(&queued, QueueFacts { max_running: Some(2), ..open }), ["queue_cap"]);
        assert_eq!(codes(&queued, QueueFacts { max_running: Some(3), ..open }), [""; 0]);
        assert_eq!(codes(&queued, QueueFacts { rated: true, ..open }), ["rate_limited"]);
        let mut blocked = run(State::Queued);
        blocked.blocked = true;
        assert_eq!(codes(&blocked, open), ["key_busy"]);
        blocked.serial_key = Some("s".to_owned());
        assert_eq!(codes(&blocked, open), ["serial_key_busy"]);
        assert_eq!(codes(&run(State::Scheduled), open), ["scheduled_later"]);
        assert_eq!(codes(&run(State::Held), open), ["held"]);
        assert_eq!(codes(&run(State::Running), open), [""; 0]);
    }

    #[test]
    fn each_missing_thing_is_named() {
        let p = profile("w");
        let worker = |free, takes_work| vec![Candidate { profile: &p, takes_work, free }];
        let code = |class: &MatchClass, workers: &[Candidate<'_>]| unmatched(class, workers).map(|(code, _)| code);
        assert_eq!(code(&class(), &worker(1, true)), None);
        assert_eq!(code(&class(), &worker(0, true)), Some("all_slots_busy"));
        assert_eq!(code(&class(), &[]), Some("no_worker_for_queue"));
        assert_eq!(code(&MatchClass { queue: "x".into(), ..class() }, &worker(1, true)), Some("no_worker_for_queue"));
        assert_eq!(code(&MatchClass { kind: "x".into(), ..class() }, &worker(1, true)), Some("no_worker_for_kind"));
        let gpu = MatchClass { requires: [("gpu".to_owned(), "a".to_owned())].into(), ..class() };
        assert_eq!(code(&gpu, &worker(1, true)), Some("requirements_unmatched"));
        let pin = |name: &str| MatchClass { pin: Some(name.to_owned()), ..class() };
        assert_eq!(code(&pin("nobody"), &worker(1, true)), Some("pin_unknown"));
        assert_eq!(code(&pin("w"), &worker(1, false)), Some("pin_offline"));
        assert_eq!(code(&pin("w"), &worker(0, true)), Some("pin_busy"));
    }
}
