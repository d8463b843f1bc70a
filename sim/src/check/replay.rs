//! I4: the engine's recorded inputs are played again with a stop of the clock inserted, then late waking. No session may be
//! judged earlier than without.

use crate::rng::Rng;
use crate::server::Recording;
use outlive_core::engine::{Effect, Engine, Input, Senses};
use outlive_core::invariants::{self, Check, Verdicts};
use outlive_core::{Millis, Mono};

/// How long the clock stands still for the engine.
const STOPPED: Millis = Millis::secs(60);

/// Plays every recording, plain and with a stop at a place of the generator's choice.
pub(crate) fn replays(recordings: &[Recording], rng: &mut Rng) -> Check {
    for recording in recordings.iter().filter(|r| r.inputs.len() > 50) {
        let plain = play(recording, usize::MAX, false);
        for self_beat_first in [false, true] {
            let at = rng.index(recording.inputs.len());
            let paused = play(recording, at, self_beat_first);
            invariants::only_later(&plain, &paused)?;
        }
    }
    Ok(())
}

/// Where each lease is judged by absence first, with the clock stopped before input `stop`. `self_beat_first`: the beat to
/// itself that was sent after waking is heard before the first tick.
fn play(recording: &Recording, stop: usize, self_beat_first: bool) -> Verdicts {
    let mut engine = Engine::new(recording.observed, recording.started);
    let mut verdicts = Verdicts::new();
    let mut stopped_at: Option<Mono> = None;
    for (n, (now, input)) in recording.inputs.iter().enumerate() {
        if n >= stop && stopped_at.is_none() {
            stopped_at = Some(*now);
        }
        let late = |t: Mono| if stopped_at.is_some() { t + STOPPED } else { t };
        let input = match (input, stopped_at) {
            (Input::Tick(senses), Some(stopped)) => {
                let shift = |sent: Mono| if self_beat_first || sent >= stopped { sent + STOPPED } else { sent };
                Input::Tick(Senses { self_beat_sent: senses.self_beat_sent.map(shift), ..*senses })
            }
            _ => input.clone(),
        };
        for effect in engine.handle(input, late(*now)) {
            if let Effect::Verdict(wanted) = effect
                && wanted.evidence.by_absence()
            {
                for lease in wanted.leases {
                    verdicts.entry((wanted.holder, lease)).or_insert(n);
                }
            }
        }
    }
    verdicts
}
