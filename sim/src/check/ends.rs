//! At the end of a history: everything has ended, was told once, and its log is whole.

use crate::server::routes::NAMESPACE;
use crate::store::{now, sure};
use crate::world::World;
use outlive_core::invariants::{self, Check, Entry};
use outlive_core::run::Run;
use outlive_core::run::derive::Marker;
use outlive_core::{Millis, RunId, State};
use outlive_store::{History as _, OutputFrom, OutputKind, OutputQuery};

/// All of it.
pub(crate) fn at_the_end(w: &mut World) {
    let lasted = Millis(w.now);
    for id in w.truth.known.clone() {
        let check = one(w, id, lasted);
        w.check(check);
    }
}

fn one(w: &World, id: RunId, lasted: Millis) -> Check {
    let Some(run) = w.truth.rows.get(&id) else {
        return invariants::within(id, "was never created, and is known", lasted, Millis::ZERO);
    };
    if !run.state.is_terminal() {
        let what = format!("is {} at epoch {} although everything is well", run.state, run.epoch);
        return invariants::within(id, &what, lasted, Millis::ZERO);
    }
    let events = sure(now(w.truth_db.events(NAMESPACE, id)), "the truth can be read").unwrap_or_default();
    invariants::told_once(run, &events)?;
    log(w, run)
}

fn log(w: &World, run: &Run) -> Check {
    let (mut entries, mut from, mut last) = (Vec::new(), 0, 0);
    loop {
        let query = OutputQuery { from: OutputFrom::After(from), channel: None, limit: 1_000, max_bytes: 1 << 20 };
        let Some(page) = sure(now(w.truth_db.output(run.id, query)), "the truth can be read") else { break };
        for entry in page.entries {
            let what = match entry.kind {
                OutputKind::Frame { epoch, frame, .. } => {
                    last = if epoch == run.epoch { frame.seq } else { last };
                    Entry::Frame(epoch, frame.seq)
                }
                OutputKind::Marker(Marker::Attempt { epoch, .. }, _) => Entry::Attempt(epoch),
                OutputKind::Marker(Marker::Lost { epoch, .. }, _) => Entry::Lost(epoch),
                OutputKind::Gap { to, .. } => Entry::Gap(to),
            };
            entries.push((entry.offset, what));
        }
        from = page.next_after;
        if page.at_head {
            break;
        }
    }
    invariants::output(run, &entries)?;
    // Every line of the attempt that succeeded is there, exactly once.
    let wanted = w.clients.frames(run.id).filter(|_| run.state == State::Succeeded);
    let whole = wanted.is_none_or(|wanted| wanted == last);
    let what = format!("has {last} of {wanted:?} lines of its last attempt");
    invariants::within(run.id, &what, Millis(u64::from(!whole)), Millis::ZERO)
}
