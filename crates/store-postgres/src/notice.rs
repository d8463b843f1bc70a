//! Notices between replicas: hints of what another one committed, never needed: whoever waits also polls.
//!
//! `NOTIFY` makes commits wait for each other, so it has a transaction of its own, at most one each 5 ms: at once if there was
//! none in the last 5 ms, else when those are over, for all that came meanwhile. It is heard over a connection of its own;
//! where that hears nothing (a pgbouncer in transaction mode), polling is quicker instead.

use crate::db::Told;
use crate::pool::Pool;
use crate::sql;
use crate::tls::Tls;
use crate::value::{query, values_of};
use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use outlive_core::ReplicaId;
use outlive_store::Hints;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Config};

/// Notices are at least this far apart.
const PACE: Duration = Duration::from_millis(5);
/// Polling where notices are heard: they may be lost.
const SLOW: Duration = Duration::from_secs(1);
/// Polling where they are not.
const QUICK: Duration = Duration::from_millis(50);
/// A listener that lost its connection tries again after this long.
const AGAIN: Duration = Duration::from_secs(1);
/// How often this replica tells itself something, to know whether it hears.
const PROBE: Duration = Duration::from_secs(5);
/// Bytes of the hints in one notice: PostgreSQL takes 8,000.
const NOTICE: usize = 7_500;

#[derive(Debug, Default)]
struct Shared {
    /// To tell others.
    to_tell: Mutex<Hints>,
    tell: Notify,
    /// What others told.
    heard: Mutex<Hints>,
    hear: Notify,
    /// Something may have been told that was not heard.
    look: AtomicBool,
    /// Probes that were told, and the last one that was heard.
    told_probe: AtomicU64,
    heard_probe: AtomicU64,
}

/// The handle.
#[derive(Clone, Debug)]
pub(crate) struct Notices(Arc<Shared>);

impl Notices {
    /// Starts to tell, and to listen.
    pub(crate) fn start(runtime: &Handle, config: Config, tls: Tls, pool: Pool, replica: ReplicaId) -> Self {
        let shared = Arc::new(Shared::default());
        runtime.spawn(tell(shared.clone(), pool, replica));
        runtime.spawn(listen(shared.clone(), config, tls, replica));
        Self(shared)
    }

    /// What the writer tells after a commit.
    pub(crate) fn teller(&self) -> impl Fn(Told) + Send + Sync + 'static {
        let shared = self.0.clone();
        move |hints| {
            lock(&shared.to_tell).merge(hints);
            shared.tell.notify_one();
        }
    }

    /// Waits until another replica told something, or it is time to look by oneself (`true`: look).
    pub(crate) async fn wait(&self) -> (Hints, bool) {
        let shared = &self.0;
        let is_heard = self.is_heard();
        let pace = if is_heard { SLOW } else { QUICK };
        let noticed = tokio::time::timeout(pace, shared.hear.notified()).await;
        let look = shared.look.swap(false, Ordering::AcqRel) || (noticed.is_err() && !is_heard);
        (std::mem::take(&mut *lock(&shared.heard)), look)
    }

    /// Whether notices arrive here: the last probe but one did.
    pub(crate) fn is_heard(&self) -> bool {
        let told = self.0.told_probe.load(Ordering::Acquire);
        told > 0 && self.0.heard_probe.load(Ordering::Acquire) + 1 >= told
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells for ever; what cannot be told is found by polling.
async fn tell(shared: Arc<Shared>, pool: Pool, replica: ReplicaId) {
    let mut probe = tokio::time::interval(PROBE);
    probe.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let text = tokio::select! {
            _ = probe.tick() => format!("{replica}?{}", shared.told_probe.fetch_add(1, Ordering::AcqRel) + 1),
            () = shared.tell.notified() => {
                let hints = std::mem::take(&mut *lock(&shared.to_tell));
                if hints.is_empty() {
                    continue;
                }
                format!("{replica}:{}", fit(hints))
            }
        };
        if let Ok(conn) = pool.get().await
            && let Err(fault) = query(&conn, sql::NOTIFY, values_of![text]).await
        {
            tracing::debug!(?fault, "a notice could not be told");
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Listens for ever.
async fn listen(shared: Arc<Shared>, config: Config, tls: Tls, replica: ReplicaId) {
    loop {
        if let Err(error) = listen_once(&shared, &config, tls.clone(), replica).await {
            tracing::debug!(error = crate::fault::said(&error), "no notices are heard");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn listen_once(
    shared: &Shared,
    config: &Config,
    tls: Tls,
    replica: ReplicaId,
) -> Result<(), tokio_postgres::Error> {
    let (conn, mut connection) = config.connect(tls).await?;
    let mut messages = poll_fn(|context| connection.poll_message(context));
    let mut listening = std::pin::pin!(conn.batch_execute(sql::LISTEN));
    let mut begun = false;
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(Ok(AsyncMessage::Notification(notice))) => hear(shared, notice.payload(), replica),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            done = &mut listening, if !begun => {
                done?;
                begun = true;
                // Whatever was told before is found by looking.
                shared.look.store(true, Ordering::Release);
                shared.hear.notify_one();
            }
        }
    }
}

/// `3:{…}`: replica 3 gives hints. `3?5`: its fifth probe.
fn hear(shared: &Shared, text: &str, replica: ReplicaId) {
    let (from, rest) = text.split_at(text.find(['?', ':']).unwrap_or(text.len()));
    let is_own = from.parse() == Ok(replica.0);
    if let Some(number) = rest.strip_prefix('?') {
        if is_own && let Ok(number) = number.parse() {
            shared.heard_probe.fetch_max(number, Ordering::AcqRel);
        }
        return;
    }
    let Some(hints) = rest.strip_prefix(':').filter(|_| !is_own) else { return };
    match serde_json::from_str(hints) {
        Ok(hints) => lock(&shared.heard).merge(hints),
        // Of a newer version: what it means is found by looking.
        Err(_) => shared.look.store(true, Ordering::Release),
    }
    shared.hear.notify_one();
}

/// As much of the hints as one notice can hold: what cannot be told is found by looking, the least urgent first.
fn fit(mut hints: Hints) -> String {
    loop {
        let text = serde_json::to_string(&hints).unwrap_or_default();
        if text.len() <= NOTICE {
            return text;
        }
        if !hints.changed.is_empty() {
            hints.changed.truncate(hints.changed.len() / 2);
        } else if !hints.ended.is_empty() {
            hints.ended.truncate(hints.ended.len() / 2);
        } else if !hints.cancels.is_empty() {
            hints.cancels.truncate(hints.cancels.len() / 2);
        } else {
            hints.ready.truncate(hints.ready.len() / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlive_core::{ClassId, RunId};

    #[test]
    fn what_others_tell_is_heard_and_what_we_tell_is_not() {
        let (shared, here) = (Shared::default(), ReplicaId(2));
        for text in [r#"2:{"ready":[5]}"#, r#"3:{"ready":[17,18]}"#, "nonsense", "3?9", "2?4"] {
            hear(&shared, text, here);
        }
        assert_eq!(lock(&shared.heard).ready, [ClassId(17), ClassId(18)]);
        assert_eq!(shared.heard_probe.load(Ordering::Acquire), 4);
        assert!(!shared.look.load(Ordering::Acquire));
        hear(&shared, "3:?", here);
        assert!(shared.look.load(Ordering::Acquire));
    }

    #[test]
    fn what_does_not_fit_into_a_notice_is_left_out_the_ready_classes_last() {
        let run = RunId(uuid::Uuid::from_u128(7));
        let hints = Hints { ready: vec![ClassId(3)], changed: vec![run; 5_000], errands: true, ..Hints::default() };
        let text = fit(hints);
        let told: Hints = serde_json::from_str(&text).unwrap();
        assert!(text.len() <= NOTICE && !told.changed.is_empty());
        assert_eq!((told.ready, told.errands), (vec![ClassId(3)], true));
    }
}
