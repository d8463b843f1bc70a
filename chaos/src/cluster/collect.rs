//! What is there at the end, read through the API, beside what commands stamped and noted.

use super::check::{Recovered, Seen, Tried};
use super::clients::Crowd;
use super::stage::said;
use crate::read;
use outlive_api::client::Client;
use outlive_api::runs::Run;
use outlive_core::{print, stamps};

/// Recoveries per page.
const PAGE: u32 = 500;

/// One run.
pub(super) async fn one(crowd: &Crowd, run: &Run) -> Result<Seen, String> {
    let client = &crowd.load.client;
    let whole = read::whole(client, run.id).await?;
    let events = client.run_events(run.id).await.map_err(said("the events of a run cannot be read"))?.events;
    let run = whole.run;
    let ask = run.tags.get("ask").and_then(|ask| ask.parse().ok()).ok_or("a run without its request")?;
    let text = std::fs::read_to_string(crowd.stamps(ask)).unwrap_or_default();
    let attempts = whole.attempts.into_iter().map(|a| Tried {
        epoch: a.epoch,
        worker: a.worker_name,
        incarnation: a.incarnation,
        claimed: a.claimed_at,
        ended: a.ended_at,
        reason: a.reason,
    });
    Ok(Seen {
        run: run.id,
        ask,
        order: crowd.orders.borrow().get(&ask).cloned(),
        state: run.state,
        epoch: run.epoch,
        failures: u64::from(run.failures),
        checkpoint: run.checkpoint.and_then(|c| c.read().ok()),
        attempts: attempts.collect(),
        log: whole.log,
        stamps: stamps::read(&text),
        notes: print::notes(&text),
        ends_told: events.iter().filter(|event| event.state.is_terminal()).count() as u64,
    })
}

/// Every recovery.
pub(super) async fn recoveries(client: &Client) -> Result<Vec<Recovered>, String> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.recoveries(None, PAGE, &cursor).await.map_err(said("the recoveries cannot be read"))?;
        all.extend(page.recoveries.into_iter().map(|r| Recovered {
            run: r.run_id,
            epoch: r.from.epoch,
            lost: r.lost_at,
            queued: r.queued_at,
            claimed: r.claimed_at,
        }));
        match page.next_cursor {
            Some(next) => cursor = next,
            None => return Ok(all),
        }
    }
}
