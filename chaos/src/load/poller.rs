//! A worker that polls: frames, checkpoints and ends over plain HTTP, each acknowledgement noted.

use super::Load;
use crate::rng::Rng;
use outlive_api::client::Client;
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_api::session::Lease;
use outlive_api::workers::{ClaimBody, Register, Registered, ReportAnswer, ReportBody, WireLiveness, WireOrder};
use outlive_core::{Json, LeaseRef, Millis, State};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// The kind of the runs that it takes.
pub(crate) const KIND: &str = "chaos";

/// Works until the load is over. `interval`: how often it says that it will be heard, which is what its leases follow.
pub(crate) async fn poller(load: Arc<Load>, mut rng: Rng, n: u64, interval: Millis) {
    let registration = Register {
        protocol: outlive_api::PROTOCOL,
        name: format!("poll-{n}"),
        instance: Uuid::from_u128(u128::from(rng.next())),
        takeover: false,
        outbox_key: String::new(),
        outbox_pending: 0,
        queues: vec!["default".to_owned()],
        kinds: vec![KIND.to_owned()],
        labels: BTreeMap::new(),
        slots: 4,
        liveness: WireLiveness::Poll,
        heartbeat_interval: Some(interval),
        version: "chaos".to_owned(),
        host: String::new(),
        pid: 0,
        held: Vec::new(),
    };
    let me = match load.until_answered(async || load.client.register(&registration).await).await {
        Some(Ok(me)) => me,
        Some(Err(code)) => return load.wrong(format!("a registration was refused: {code}")),
        None => return,
    };
    let worker = Worker { client: load.client.with_token(&me.session_token), me, load: Arc::clone(&load) };
    while !load.is_over() {
        let request_id = Uuid::from_u128(u128::from(rng.next()) << 64 | u128::from(rng.next()));
        let body = ClaimBody { request_id, max: 4, wait: Some(Millis(500)) };
        let claimed = load.until_answered(async || worker.client.claim(worker.me.worker_id, &body).await).await;
        match claimed {
            Some(Ok(leases)) => {
                for lease in leases.leases {
                    worker.work(lease, &mut rng).await;
                }
            }
            Some(Err(code)) => load.wrong(format!("a claim was refused: {code}")),
            None => return,
        }
    }
}

struct Worker {
    client: Client,
    me: Registered,
    load: Arc<Load>,
}

impl Worker {
    async fn report(&self, items: Vec<WireItem>) -> Option<ReportAnswer> {
        let body = ReportBody { items, ..ReportBody::default() };
        let answer = self.load.until_answered(async || self.client.report(self.me.worker_id, &body).await).await?;
        answer.map_err(|code| self.load.wrong(format!("a report was refused: {code}"))).ok()
    }

    /// Frames, checkpoints, an end.
    async fn work(&self, lease: Lease, rng: &mut Rng) {
        let name = lease.lease();
        let bare = |op| WireItem::bare(op, Some(name));
        let before: u64 = lease.checkpoint.as_ref().and_then(|c| c.read().ok()).unwrap_or(0);
        let frames = 1 + rng.below(6);
        for seq in 1..=frames {
            let frame = WireItem {
                seq: i64::try_from(seq).ok(),
                channel: Some("stdout".to_owned()),
                text: Some(format!("{}.{seq}\n", name.epoch.0)),
                ..bare(OpName::Output)
            };
            let checkpoint = WireItem { data: Json::of(&(before + seq)).ok(), ..bare(OpName::Checkpoint) };
            let Some(answer) = self.report(vec![frame, checkpoint]).await else { return };
            match answer.results[..] {
                [WireResult::Ok, WireResult::Ok] => {
                    let mut history = self.load.note();
                    history.frames.insert((name.run_id, name.epoch, seq));
                    history.checkpoints.insert(name.run_id, before + seq);
                }
                [WireResult::Fenced { .. } | WireResult::Terminal { .. }, _] => return,
                ref other => self.load.wrong(format!("a frame was answered {other:?}")),
            }
            let cancels =
                |order: &WireOrder| matches!(order, WireOrder::Cancel { run_id, .. } if *run_id == name.run_id);
            if answer.orders.iter().any(cancels) {
                return self.end(name, bare(OpName::Cancelled), State::Cancelled).await;
            }
        }
        let end = WireItem { last_output_seq: i64::try_from(frames).ok(), ..bare(OpName::Complete) };
        self.end(name, end, State::Succeeded).await;
    }

    async fn end(&self, lease: LeaseRef, item: WireItem, state: State) {
        let Some(answer) = self.report(vec![item]).await else { return };
        match answer.results[..] {
            [WireResult::Ok] => drop(self.load.note().finishes.insert(lease.run_id, (lease.epoch, state))),
            [WireResult::Fenced { .. } | WireResult::Terminal { .. }] => {}
            ref other => self.load.wrong(format!("an end was answered {other:?}")),
        }
    }
}
