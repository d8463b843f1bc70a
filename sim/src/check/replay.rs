//! I4: the engine's recorded inputs are played again with a stop of the clock inserted, then late waking. No session may be
//! judged earlier than without.

use crate::rng::Rng;
use crate::server::Recording;
use crate::server::driver::ghost;
use outlive_core::engine::{BreakerMode, ClaimToken, Effect, Engine, Input, Rows, Senses};
use outlive_core::invariants::{self, Check, Verdicts};
use outlive_core::{Holder, Millis, Mono};
use std::collections::BTreeMap;

/// How long the clock stands still for the engine.
const STOPPED: Millis = Millis::secs(60);

/// Plays every recording, plain and with a stop at a place of the generator's choice.
pub(crate) fn replays<'r>(recordings: impl Iterator<Item = &'r Recording>, rng: &mut Rng) -> Check {
    for recording in recordings.filter(|r| r.inputs.len() > 50) {
        let claims = claims(recording);
        let plain = play(recording, &claims, None);
        for self_beat_first in [false, true] {
            let at = rng.index(recording.inputs.len());
            let paused = play(recording, &claims, Some((at, self_beat_first)));
            invariants::only_later(&plain, &paused)?;
        }
    }
    Ok(())
}

/// For whom each claim of the recorded history was made.
fn claims(recording: &Recording) -> BTreeMap<ClaimToken, Holder> {
    let mut engine = engine_of(recording, Engine::new(recording.observed, recording.started));
    let mut claims = BTreeMap::new();
    for (now, input) in &recording.inputs {
        for effect in engine.handle(input.clone(), *now) {
            if let Effect::Claim(wanted) = effect {
                claims.insert(wanted.token, wanted.holder);
            }
        }
    }
    claims
}

fn engine_of(recording: &Recording, engine: Engine) -> Engine {
    match recording.seat {
        Some(seat) => engine.in_cluster(seat, recording.started),
        None => engine,
    }
}

/// Where each lease is judged first. `stop`: before which input the clock stands still, and whether the beat to
/// itself that was sent after waking is heard before the first tick.
///
/// A stopped engine claims at other moments, so that the recorded answers fit no claim of its: what a claim brought is handed to
/// its session by name, in the plain history as well.
///
/// Without a breaker, which only ever delays: what it delays in the plain history must not count as later.
fn play(recording: &Recording, claims: &BTreeMap<ClaimToken, Holder>, stop: Option<(usize, bool)>) -> Verdicts {
    let mut engine =
        engine_of(recording, Engine::new(recording.observed, recording.started)).with_breaker(BreakerMode::NeverOpens);
    let mut verdicts = Verdicts::new();
    let mut stopped_at: Option<Mono> = None;
    for (n, (now, input)) in recording.inputs.iter().enumerate() {
        if stop.is_some_and(|(stop, _)| n >= stop) && stopped_at.is_none() {
            stopped_at = Some(*now);
        }
        let late = |t: Mono| if stopped_at.is_some() { t + STOPPED } else { t };
        let self_beat_first = stop.is_some_and(|(_, first)| first);
        let input = match (input, stopped_at) {
            (Input::Tick(senses), Some(stopped)) => {
                let shift = |sent: Mono| if self_beat_first || sent >= stopped { sent + STOPPED } else { sent };
                Input::Tick(Senses { self_beat_sent: senses.self_beat_sent.map(shift), ..*senses })
            }
            (Input::Rows(rows), Some(stopped)) if rows.sent >= stopped => {
                Input::Rows(Rows { sent: rows.sent + STOPPED, ..rows.clone() })
            }
            (Input::ClaimDone(token, result), _) => {
                let holder = claims.get(token).filter(|holder| engine.session(**holder, *now).is_some());
                let Some(holder) = holder else { continue };
                Input::Audit(ghost(*holder, result.leases.clone()))
            }
            _ => input.clone(),
        };
        for effect in engine.handle(input, late(*now)) {
            // What a person or a limit took in the plain history may be judged by absence after a stop, if only later.
            if let Effect::Verdict(wanted) = effect
                && (wanted.evidence.by_absence() || stop.is_none())
            {
                for lease in wanted.leases {
                    verdicts.entry((wanted.holder, lease)).or_insert(n);
                }
            }
        }
    }
    verdicts
}
