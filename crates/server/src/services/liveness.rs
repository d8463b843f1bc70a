//! Signs of life over an exchange beside the rows (`--liveness`). What was heard here of workers at home elsewhere is left there;
//! about own sessions that were not heard for a while it is asked. It fails without consequence: the rows go on alone.

use crate::app::App;
use outlive_core::engine::{Input, Signs};
use outlive_core::{Holder, Millis, Mono};
use outlive_store::{Liveness, Unknown};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Between two looks.
const EVERY: Millis = Millis(250);

/// What one replica remembers of the exchange.
struct Looks {
    signs: Signs,
    /// Up to when what was heard for others has been left there.
    told: Mono,
    /// Who was asked about, until they are heard again, or gone.
    asked: BTreeSet<Holder>,
    failing: bool,
}

/// For as long as the server runs.
pub(super) async fn keep(app: Arc<App>, exchange: Arc<dyn Liveness>) {
    let mut looks = Looks { signs: Signs::default(), told: app.clock.mono(), asked: BTreeSet::new(), failing: false };
    let mut interval = tokio::time::interval(EVERY.duration());
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    metrics::gauge!("outlive_liveness_exchange_up").set(0.0);
    loop {
        interval.tick().await;
        let looked = look(&app, &*exchange, &mut looks).await;
        metrics::gauge!("outlive_liveness_exchange_up").set(if looked.is_ok() { 1.0 } else { 0.0 });
        match looked {
            Ok(()) if looks.failing => tracing::info!("the liveness exchange answers again"),
            Err(ref why) if !looks.failing => {
                tracing::warn!(%why, "the liveness exchange does not answer; the rows of replicas go on without it");
            }
            _ => {}
        }
        if looked.is_err() {
            metrics::counter!("outlive_liveness_exchange_failures_total").increment(1);
        }
        looks.failing = looked.is_err();
    }
}

async fn look(app: &Arc<App>, exchange: &dyn Liveness, looks: &mut Looks) -> Result<(), Unknown> {
    let now = app.clock.mono();
    let since = looks.told;
    let (heard, unheard) = app.driver.look(|engine| (engine.heard_for_others(since), engine.unheard()));
    exchange.touch(&heard).await?;
    looks.told = now;
    let asked_at = app.clock.mono();
    let answers = exchange.check(&unheard).await?;
    let notes = looks.signs.seen(unheard.iter().copied().zip(answers).collect(), asked_at);
    if !notes.is_empty() {
        metrics::counter!("outlive_liveness_exchange_heard_total").increment(notes.len() as u64);
        app.input(Input::Noted(notes));
    }
    // Not asked about any more: heard again, or no session of ours. The engine forgets one only when the store has confirmed
    // that it is over or has another home.
    let unheard: BTreeSet<Holder> = unheard.into_iter().collect();
    let settled: Vec<Holder> = looks.asked.difference(&unheard).copied().collect();
    let gone: Vec<Holder> =
        app.driver.look(|engine| settled.into_iter().filter(|holder| !engine.is_home_of(*holder)).collect());
    exchange.forget(&gone).await?;
    looks.asked = unheard;
    Ok(())
}
