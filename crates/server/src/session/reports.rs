//! Reports of one session: in order, one store call at a time; what has come in meanwhile goes together in the next.

use crate::app::App;
use axum::extract::ws::WebSocket;
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_api::session::ServerMessage;
use outlive_core::engine::CloseKind;
use outlive_core::limits::sizes;
use outlive_core::{Holder, Incarnation, LeaseRef};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Items that may wait for their answers; then the socket is not read. A worker has at most [`sizes::BATCH`] on the wire, and as
/// many of an outbox: what a store does not take must not keep the beats behind it from being read.
const WAITING: usize = 2 * sizes::BATCH;
/// Answers that wait to be sent.
const ANSWERS: usize = 64;
/// Items that go into one store call.
const ITEMS: usize = 4 * sizes::BATCH;

pub(super) struct Report {
    pub(super) seq: u64,
    pub(super) items: Vec<WireItem>,
    pub(super) replay: bool,
}

/// A report, and its room until it is answered.
type Waiting = (Report, OwnedSemaphorePermit);

/// The sending side.
pub(super) struct Reports {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

impl Reports {
    /// Starts the task; it ends when the sending side is dropped.
    pub(super) fn start(app: Arc<App>, holder: Holder) -> (Self, mpsc::Receiver<ServerMessage>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (results, out) = mpsc::channel(ANSWERS);
        tokio::spawn(work(app, holder, receiver, results));
        (Self { queue: sender, room: Arc::new(Semaphore::new(WAITING)) }, out)
    }

    /// Queues one report. While there is no room, answers go on being sent: the two directions never wait for each other.
    pub(super) async fn queue(
        &self,
        report: Report,
        results: &mut mpsc::Receiver<ServerMessage>,
        socket: &mut WebSocket,
    ) -> Result<(), CloseKind> {
        let places = u32::try_from(report.items.len().max(1)).unwrap_or(u32::MAX);
        let room = loop {
            tokio::select! {
                room = Arc::clone(&self.room).acquire_many_owned(places) => break room.map_err(|_| CloseKind::Ours)?,
                Some(message) = results.recv() => {
                    super::send(socket, &message).await.map_err(|error| super::close_kind(&error))?;
                }
            }
        };
        // Each report has a place of its own, so there is one in the queue unless nobody reads it any more.
        self.queue.try_send((report, room)).map_err(|_| CloseKind::Ours)
    }
}

async fn work(app: Arc<App>, holder: Holder, mut queue: mpsc::Receiver<Waiting>, out: mpsc::Sender<ServerMessage>) {
    let mut next = queue.recv().await;
    while let Some((first, room)) = next.take() {
        let replay = first.replay;
        let mut together = vec![(first.seq, first.items.len(), room)];
        let mut items = first.items;
        while items.len() < ITEMS
            && let Ok((more, room)) = queue.try_recv()
        {
            if more.replay != replay {
                next = Some((more, room));
                break;
            }
            together.push((more.seq, more.items.len(), room));
            items.extend(more.items);
        }
        let Some(results) = app.report_until_known(holder, items, replay, &out).await else { return };
        let mut results = results.into_iter();
        for (report_seq, count, _room) in together {
            let results = results.by_ref().take(count).collect();
            if out.send(ServerMessage::Results { report_seq, results }).await.is_err() {
                return;
            }
        }
        if next.is_none() {
            next = queue.recv().await;
        }
    }
}

impl App {
    /// Applies items; while the store does not answer, they wait here: the worker keeps them anyway, and its beats go on. Not when
    /// its connection is gone: it repeats them over its next one and goes on there, and a checkpoint of here would come after
    /// newer ones.
    async fn report_until_known(
        self: &Arc<Self>,
        holder: Holder,
        items: Vec<WireItem>,
        replay: bool,
        out: &mpsc::Sender<ServerMessage>,
    ) -> Option<Vec<WireResult>> {
        loop {
            match self.report(holder, items.clone(), replay).await {
                Ok(results) => return Some(results),
                Err(error) if self.is_stopping() => {
                    tracing::warn!(%holder, %error, "report not stored before the stop; the worker sends it again");
                    return None;
                }
                Err(error) if out.is_closed() => {
                    tracing::warn!(%holder, %error, "report not stored before its connection ended; the worker sends it again");
                    return None;
                }
                Err(error) => {
                    tracing::warn!(%holder, %error, "report not stored yet");
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Applies items of a worker, in order; the answers are in the same order.
    pub(crate) async fn report(
        self: &Arc<Self>,
        holder: Holder,
        items: Vec<WireItem>,
        replay: bool,
    ) -> Result<Vec<WireResult>, outlive_store::StoreError> {
        let mut results: Vec<Option<WireResult>> = Vec::with_capacity(items.len());
        let mut good = Vec::with_capacity(items.len());
        let mut outbox_done = false;
        for item in items {
            if item.op == OpName::OutboxDone {
                outbox_done = true;
                results.push(Some(WireResult::Ok));
                continue;
            }
            match item.into_item() {
                Ok(item) => {
                    good.push(item);
                    results.push(None);
                }
                Err(detail) => results.push(Some(WireResult::Invalid { detail })),
            }
        }
        let before = Holder { incarnation: Incarnation(holder.incarnation.0 - 1), ..holder };
        let mut leases: Vec<_> = Vec::with_capacity(good.len());
        let mut answers = Vec::with_capacity(good.len());
        while let Some(first) = good.first() {
            let lease = first.lease;
            let sender = if replay { self.doer(before, lease).await? } else { holder };
            let together = if replay { good.iter().take_while(|i| i.lease == lease).count() } else { good.len() };
            let rest = good.split_off(together);
            leases.extend(good.iter().map(|item| (sender, item.lease, item.op.name(), item.op.ends_attempt())));
            let reported = self.store.report(sender, good).await?;
            answers.extend(reported.results);
            self.committed(reported.commit);
            good = rest;
        }
        let mut alive: Vec<_> = Vec::new();
        for ((sender, lease, op, ends), answer) in leases.iter().zip(&answers) {
            match answer {
                outlive_core::report::ItemResult::Ok if !ends => alive.push((*sender, *lease)),
                outlive_core::report::ItemResult::Fenced { .. } | outlive_core::report::ItemResult::Terminal { .. } => {
                    metrics::counter!("outlive_fenced_writes_total", "op" => *op).increment(1);
                }
                _ => {}
            }
        }
        alive.dedup();
        if !alive.is_empty() {
            self.input(outlive_core::engine::Input::Reported(alive));
        }
        if outbox_done {
            self.lose_replaced(before, None).await?;
        }
        let mut answers = answers.into_iter();
        let fill = |slot: Option<WireResult>| {
            slot.or_else(|| answers.next().map(WireResult::from))
                .unwrap_or(WireResult::Invalid { detail: "not answered".to_owned() })
        };
        Ok(results.into_iter().map(fill).collect())
    }

    /// Who did what an outbox holds: the incarnation that holds (or last held) that lease, if it is one of this worker's
    /// earlier ones. An outbox may have outlived several of them.
    async fn doer(&self, before: Holder, lease: LeaseRef) -> Result<Holder, outlive_store::StoreError> {
        let Some(row) = self.store.worker(before.worker).await? else { return Ok(before) };
        let run = self.store.get(&row.profile.namespace, lease.run_id).await?;
        let holder = run.and_then(|r| r.run.holder.filter(|_| r.run.epoch == lease.epoch));
        Ok(holder.filter(|h| h.worker == before.worker && h.incarnation <= before.incarnation).unwrap_or(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::support::House;
    use futures_util::FutureExt as _;
    use outlive_core::{Epoch, RunId, Wall, WorkerId};
    use outlive_store::faults::{Call, Fault, Faulty};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_stored_waits_for_the_store_and_is_given_up_with_its_connection() {
        let refuses = |call: Call| if call.method == "report" { Fault::Refuse } else { Fault::None };
        let house = House::over("[queues]", |store| Arc::new(Faulty::new(store, refuses))).await;
        let holder = Holder { worker: WorkerId(1), incarnation: Incarnation(1) };
        let lease = LeaseRef { run_id: RunId::from_parts(Wall(0), 1), epoch: Epoch(1) };
        let items = || vec![WireItem::bare(OpName::Start, Some(lease))];
        let (out, connection) = mpsc::channel(ANSWERS);
        let mut report = Box::pin(house.app.report_until_known(holder, items(), false, &out));
        let minute = tokio::time::timeout(Duration::from_mins(1), &mut report).await;
        assert!(minute.is_err(), "its worker waits for the answer");
        drop(connection);
        let given_up = tokio::time::timeout(Duration::from_mins(1), report).await;
        assert!(given_up.expect("nobody waits for it").is_none());
        let again = house.app.report_until_known(holder, items(), false, &out).now_or_never();
        assert!(again.expect("the first refusal is the last").is_none());
    }
}
