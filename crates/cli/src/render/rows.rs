//! The columns of each thing that can be listed.

use super::table::{Field, Tone};
use super::{Look, Row, text};
use crate::commands::events::Told;
use outlive_api::events::{ActiveRun, FeedEvent};
use outlive_api::ops::{Recovery, Setting, StuckRun};
use outlive_api::queues::Queue;
use outlive_api::runs::{Attempt, ExecInput, Run, RunEvent};
use outlive_api::time;
use outlive_api::workers::Worker;
use outlive_core::Wall;

/// What a run does: its command line, or its kind.
pub(crate) fn what(run: &Run) -> String {
    match run.input.read::<ExecInput>() {
        Ok(exec) if run.kind == "exec" => text::shell(&exec.command),
        _ => run.kind.clone(),
    }
}

/// Time of day of an event in this list, whole when wide.
fn clock(look: &Look, at: Wall) -> String {
    let whole = time::text(at);
    if look.is_wide() { whole } else { whole.get(11..23).unwrap_or(&whole).to_owned() }
}

/// What there is to say about a run beside its state.
pub(crate) fn note(run: &Run) -> String {
    if let Some(stuck) = &run.stuck {
        return format!("{}: {}", stuck.kind, stuck.why);
    }
    if let Some(text) = run.reason_text.as_ref().filter(|_| !run.state.is_leased()) {
        return text.clone();
    }
    let Some(progress) = &run.progress else { return String::new() };
    let percent = progress.fraction.map(|f| format!("{:.0}%", f * 100.0));
    [percent, progress.note.clone()].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

impl Row for Run {
    const COLUMNS: (&'static [&'static str], usize) =
        (&["RUN", "STATE", "WORKER", "ATTEMPT", "AGE", "TOOK", "QUEUE", "WHAT", "NOTE", "LOSSES", "EPOCH", "TAGS"], 9);
    const ELASTIC: &'static [usize] = &[7, 8];

    fn cells(&self, look: &Look) -> Vec<Field> {
        let took = self.started_at.map(|s| self.finished_at.unwrap_or(look.now).since(s));
        let worker = self.lease.as_ref().map(|l| l.worker_name.clone()).unwrap_or_default();
        let stuck = if self.stuck.is_some() { Tone::Bad } else { Tone::Plain };
        vec![
            text::run_id(look, self.id).into(),
            text::state(self.state),
            worker.into(),
            format!("{}/{}", self.attempt, self.max_attempts).into(),
            text::age(look, self.created_at).into(),
            took.map(text::span).unwrap_or_default().into(),
            self.queue.clone().into(),
            what(self).into(),
            Field::toned(note(self), stuck),
            self.losses.to_string().into(),
            self.epoch.to_string().into(),
            text::pairs(&self.tags).into(),
        ]
    }

    fn id(&self) -> String {
        self.id.to_string()
    }
}

impl Row for Worker {
    const COLUMNS: (&'static [&'static str], usize) = (
        &[
            "WORKER", "STATUS", "HEARD", "SLOTS", "QUEUES", "LOSSES", "PID", "HOST", "LABELS", "ID", "STARTS", "KINDS",
            "VERSION",
        ],
        9,
    );
    const ELASTIC: &'static [usize] = &[8];

    fn cells(&self, look: &Look) -> Vec<Field> {
        let starts = format!("{}, last {} ago", self.incarnation, text::age(look, self.registered_at));
        vec![
            self.name.clone().into(),
            text::status(&self.status),
            self.last_heard_age_ms.map(|ms| format!("{} ago", text::ms(Some(ms)))).unwrap_or_default().into(),
            format!("{}/{}", self.held.len(), self.slots).into(),
            self.queues.join(",").into(),
            self.losses.to_string().into(),
            self.pid.to_string().into(),
            self.host.clone().into(),
            text::pairs(&self.labels).into(),
            self.id.to_string().into(),
            starts.into(),
            self.kinds.join(",").into(),
            self.version.clone().into(),
        ]
    }

    fn id(&self) -> String {
        self.id.to_string()
    }
}

impl Row for Queue {
    const COLUMNS: (&'static [&'static str], usize) = (
        &[
            "QUEUE",
            "STATUS",
            "QUEUED",
            "OLDEST",
            "RUNNING",
            "SCHEDULED",
            "HELD",
            "LEASE_TTL",
            "MAX_RUNNING",
            "RUN_TIMEOUT",
        ],
        8,
    );

    fn cells(&self, _: &Look) -> Vec<Field> {
        let c = &self.counts;
        let status = if self.paused { Field::toned("paused", Tone::Doubt) } else { Field::toned("open", Tone::Good) };
        vec![
            self.name.clone().into(),
            status,
            c.queued.to_string().into(),
            text::ms(c.oldest_queued_ms).into(),
            c.running.to_string().into(),
            c.scheduled.to_string().into(),
            c.held.to_string().into(),
            self.policy.lease_ttl.to_string().into(),
            self.policy.max_running.map(|n| n.to_string()).unwrap_or_default().into(),
            self.policy.run_timeout.to_string().into(),
        ]
    }

    fn id(&self) -> String {
        self.name.clone()
    }
}

impl Row for Attempt {
    const COLUMNS: (&'static [&'static str], usize) = (
        &["EPOCH", "WORKER", "CLAIMED", "STARTED", "ENDED", "OUTCOME", "EXIT", "REASON", "INCARNATION", "LAST HEARD"],
        8,
    );
    const ELASTIC: &'static [usize] = &[7];

    fn cells(&self, look: &Look) -> Vec<Field> {
        let at = |t: Option<Wall>| t.map(|t| clock(look, t)).unwrap_or_default();
        let exit = self.exit.as_ref().map(|e| match (&e.signal, e.code) {
            (Some(signal), _) => signal.clone(),
            (None, code) => code.map(|c| c.to_string()).unwrap_or_default(),
        });
        let said = self.error.as_ref().map(|e| e.message.clone()).filter(|m| !m.is_empty());
        let reason = self.reason.map(|r| format!("{r}: {}", said.as_deref().unwrap_or(r.text()))).or(said);
        let outcome = self.outcome.map_or_else(
            || if self.ended_at.is_none() { Field::toned("open", Tone::Busy) } else { "".into() },
            |o| Field::toned(o.as_str(), if o.as_str() == "success" { Tone::Good } else { Tone::Doubt }),
        );
        vec![
            self.epoch.to_string().into(),
            self.worker_name.clone().into(),
            clock(look, self.claimed_at).into(),
            at(self.started_at).into(),
            at(self.ended_at).into(),
            outcome,
            exit.unwrap_or_default().into(),
            reason.unwrap_or_default().into(),
            self.incarnation.to_string().into(),
            at(self.last_heard_at).into(),
        ]
    }

    fn id(&self) -> String {
        self.epoch.to_string()
    }
}

impl Row for RunEvent {
    const COLUMNS: (&'static [&'static str], usize) = (&["AT", "EVENT", "EPOCH", "STATE", "WHY"], 5);
    const ELASTIC: &'static [usize] = &[4];

    fn cells(&self, look: &Look) -> Vec<Field> {
        let reason = self.reason.map(|r| r.text().to_owned());
        let why = [reason, self.note.clone()].into_iter().flatten().collect::<Vec<_>>().join(" · ");
        vec![
            clock(look, self.at).into(),
            self.r#type.clone().into(),
            self.epoch.to_string().into(),
            text::state(self.state),
            why.into(),
        ]
    }

    fn id(&self) -> String {
        self.r#type.clone()
    }
}

/// What a feed's event is about, and what it says of it.
fn event_text(look: &Look, event: &FeedEvent) -> (String, String) {
    let reason = event.reason.map(|reason| reason.to_string());
    let words = |words: Vec<Option<String>>| words.into_iter().flatten().collect::<Vec<_>>().join(" ");
    if let Some(subject) = &event.subject {
        let change = format!(
            "{} → {}, {} active",
            event.previous.as_deref().unwrap_or_default(),
            event.status.as_deref().unwrap_or_default(),
            event.active_count.unwrap_or_default()
        );
        let last = event.last.as_ref().map(|last| {
            let reason = last.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("· last {}{reason}", last.state)
        });
        return (subject.clone(), words(vec![Some(change), last]));
    }
    if let Some(run) = event.run_id {
        let state = event.state.map(|state| state.to_string());
        let epoch = event.epoch.filter(|epoch| epoch.0 > 0).map(|epoch| format!("#{epoch}"));
        let worker = event.worker_name.as_ref().map(|name| format!("on {name}"));
        let reason = reason.map(|reason| format!("· {reason}"));
        return (format!("run {}", text::run_id(look, run)), words(vec![state, epoch, worker, reason]));
    }
    if let Some(worker) = &event.worker_name {
        let start = event.incarnation.map(|n| format!("#{n}"));
        return (format!("worker {worker}"), words(vec![start, reason]));
    }
    let queue = event.queue.as_ref().map(|queue| format!("queue {queue}"));
    let about = queue.or_else(|| event.phase.as_ref().map(|phase| format!("phase {phase}")));
    (about.unwrap_or_else(|| "server".to_owned()), event.detail.clone().unwrap_or_default())
}

impl Row for Told {
    const COLUMNS: (&'static [&'static str], usize) = (&["AT", "EVENT", "ABOUT", "WHAT", "QUEUE", "ID"], 4);
    const ELASTIC: &'static [usize] = &[3];

    fn cells(&self, look: &Look) -> Vec<Field> {
        let event = &self.event;
        let (about, what) = event_text(look, event);
        let tone = match event.r#type.as_str() {
            "attempt.lost" | "worker.offline" | "breaker.opened" | "sweep.failed" => Tone::Bad,
            "queue.paused" | "run.held" | "attempt.failed" => Tone::Doubt,
            "worker.online" | "breaker.closed" => Tone::Good,
            _ => Tone::Plain,
        };
        vec![
            clock(look, event.at).into(),
            Field::toned(event.r#type.clone(), tone),
            about.into(),
            what.into(),
            event.queue.clone().unwrap_or_default().into(),
            self.place().into(),
        ]
    }

    fn id(&self) -> String {
        self.place()
    }
}

impl Row for ActiveRun {
    const COLUMNS: (&'static [&'static str], usize) = (&["RUN", "STATE", "WORKER", "AGE", "QUEUE", "KIND"], 6);

    fn cells(&self, look: &Look) -> Vec<Field> {
        vec![
            text::run_id(look, self.id).into(),
            text::state(self.state),
            self.worker_name.clone().unwrap_or_default().into(),
            text::age(look, self.created_at).into(),
            self.queue.clone().into(),
            self.kind.clone().into(),
        ]
    }

    fn id(&self) -> String {
        self.id.to_string()
    }
}

impl Row for Recovery {
    const COLUMNS: (&'static [&'static str], usize) = (
        &["RUN", "LOST", "FROM", "TO", "EVIDENCE", "DETECT", "REQUEUE", "CLAIM", "RESUME", "REDO", "OUTCOME", "REASON"],
        11,
    );

    fn cells(&self, look: &Look) -> Vec<Field> {
        let tone = if self.outcome == "recovered" { Tone::Good } else { Tone::Doubt };
        vec![
            text::run_id(look, self.run_id).into(),
            clock(look, self.lost_at).into(),
            format!("{} #{}", self.from.worker_name, self.from.epoch).into(),
            self.to.as_ref().map(|t| format!("{} #{}", t.worker_name, t.epoch)).unwrap_or_default().into(),
            self.evidence.clone().into(),
            text::ms(Some(self.detect_ms)).into(),
            text::ms(self.requeue_ms).into(),
            text::ms(self.claim_ms).into(),
            text::ms(self.resume_ms).into(),
            text::ms(self.redo_ms).into(),
            Field::toned(self.outcome.clone(), tone),
            self.reason.as_str().into(),
        ]
    }

    fn id(&self) -> String {
        self.id.clone()
    }
}

impl Row for StuckRun {
    const COLUMNS: (&'static [&'static str], usize) = (&["RUN", "STUCK", "FOR", "STATE", "QUEUE", "WHY"], 6);
    const ELASTIC: &'static [usize] = &[5];

    fn cells(&self, look: &Look) -> Vec<Field> {
        vec![
            text::run_id(look, self.id).into(),
            Field::toned(self.stuck.kind.clone(), Tone::Bad),
            text::age(look, self.stuck.since).into(),
            text::state(self.state),
            self.queue.clone().into(),
            self.stuck.why.clone().into(),
        ]
    }

    fn id(&self) -> String {
        self.id.to_string()
    }
}

impl Row for Setting {
    const COLUMNS: (&'static [&'static str], usize) = (&["SETTING", "VALUE", "FROM"], 3);
    const ELASTIC: &'static [usize] = &[2];

    fn cells(&self, _: &Look) -> Vec<Field> {
        let tone = if self.origin == "default" { Tone::Quiet } else { Tone::Plain };
        vec![self.name.clone().into(), self.value.clone().into(), Field::toned(self.origin.clone(), tone)]
    }

    fn id(&self) -> String {
        self.name.clone()
    }
}
