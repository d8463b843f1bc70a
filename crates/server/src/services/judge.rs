//! The judge's tick: what it senses of the store and of its own listener, each 50 ms.

use crate::app::App;
use outlive_core::Mono;
use outlive_core::engine::{Input, Senses, TICK};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Ticks for ever.
pub(super) async fn keep(app: Arc<App>) {
    let mut interval = tokio::time::interval(TICK.duration());
    // After a stall there is one tick, not a burst of them: what was missed was not observed.
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let pulse = app.store.pulse();
        if pulse.broken {
            app.broken.send_replace(true);
        }
        let sent = app.self_beat.load(Ordering::Acquire);
        let senses = Senses {
            since_commit: pulse.since_commit,
            pending_write: pulse.pending,
            self_beat_sent: (sent > 0).then_some(Mono(sent)),
        };
        app.input(Input::Tick(senses));
    }
}
