//! What may go wrong, when, and how it heals.

use crate::clients;
use crate::net::{Down, Way};
use crate::queue::Owner;
use crate::rng::Rng;
use crate::server::{self, routes, session};
use crate::world::World;
use outlive_api::session::{CloseReason, ServerMessage};
use outlive_core::report::{Item, Op, Wait};
use outlive_core::{Epoch, LeaseRef};
use outlive_worker::agent::Input;
use outlive_worker::config::Shutdown;

/// How long agents may trust their leases while a server that stops on purpose comes back.
const KEEP_TRUST_MS: u64 = 5_000;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    KillAgent,
    PauseAgent,
    KillChild,
    PauseServer,
    KillServer,
    StopServer,
    Starve,
    ReplicaSilent,
    Partition,
    Confused,
    StoreBlip,
    StoreOutage,
    LostReplies,
    Uncertain,
    SlowStore,
    LockedStore,
    CutOne,
    ProxyDrop,
    KillPoller,
    SilencePoller,
    PollersPowerCut,
    CutAll,
    Silence,
    NetworkDown,
    OneWay,
    PowerLoss,
    LongPowerLoss,
    PowerCut,
    Drain,
    Evict,
    Cancel,
    WallJump,
}

/// Lets every fault of the scenario strike again and again until `until`.
pub(crate) fn start(w: &mut World, until: u64) {
    for &(fault, least, longest) in w.scenario.faults {
        let mut rng = Rng::new(w.seed).part(&format!("{fault:?}"));
        let first = rng.between(least / 2, longest);
        w.after(first, Owner::World, move |w| again(w, fault, (least, longest), rng, until));
    }
}

fn again(w: &mut World, fault: Fault, pauses: (u64, u64), mut rng: Rng, until: u64) {
    if w.now >= until {
        return;
    }
    strike(w, fault, &mut rng);
    let pause = rng.between(pauses.0, pauses.1);
    w.after(pause, Owner::World, move |w| again(w, fault, pauses, rng, until));
}

fn strike(w: &mut World, fault: Fault, rng: &mut Rng) {
    let (host, replica) = (rng.index(w.hosts.len()), rng.index(w.scenario.replicas));
    match fault {
        Fault::KillAgent => {
            w.kill_agent(host);
            let back = rng.skewed(15_000) + 20;
            w.after(back, Owner::World, move |w| w.start_agent(host));
        }
        Fault::PauseAgent => {
            // An agent that stands still cannot notice the end of its connection: see the crate's documentation.
            if w.hosts[host].dropped_at.is_none_or(|at| w.now - at > 500) {
                w.pause_agent(host);
            }
            let woken = rng.skewed(25_000);
            w.after(woken, Owner::World, move |w| w.wake_agent(host));
        }
        Fault::KillChild => w.kill_some_child(rng),
        Fault::Partition => {
            let (share, lasts) = (rng.between(35, 70), rng.between(8_000, 28_000));
            for host in 0..w.hosts.len() {
                if rng.chance(share) {
                    silence(w, host, lasts, lasts);
                }
            }
        }
        Fault::Confused => confused(w, host, rng),
        Fault::KillPoller => {
            let poller = rng.index(w.pollers.len());
            w.kill_poller(poller);
            let back = rng.skewed(60_000);
            w.after(back, Owner::World, move |w| w.start_poller(poller));
        }
        Fault::SilencePoller => {
            let (poller, lasts) = (rng.index(w.pollers.len()), rng.skewed(90_000));
            w.log(format_args!("p{poller} is silent for {lasts} ms"));
            w.pollers[poller].silent_until = w.now + lasts;
        }
        Fault::PollersPowerCut => {
            for poller in 0..w.pollers.len() * 7 / 10 {
                w.kill_poller(poller);
                w.after(80_000, Owner::World, move |w| w.start_poller(poller));
            }
        }
        Fault::ProxyDrop => proxy_drops(w, host, rng),
        Fault::CutOne => drop_connections(w, host),
        Fault::CutAll => (0..w.hosts.len()).for_each(|host| drop_connections(w, host)),
        Fault::Silence => {
            let lasts = rng.skewed(40_000);
            silence(w, host, lasts, lasts);
        }
        Fault::NetworkDown => network_down(w, rng.between(500, 28_000)),
        Fault::OneWay => {
            let lasts = rng.skewed(30_000);
            if rng.chance(50) { silence(w, host, lasts, 0) } else { silence(w, host, 0, lasts) }
        }
        Fault::PowerLoss => power_loss(w, host, rng.between(2_000, 40_000)),
        Fault::LongPowerLoss => power_loss(w, host, rng.between(60_000, 90_000)),
        Fault::PowerCut => {
            let hosts = w.hosts.len() / 2;
            (0..hosts).for_each(|host| power_loss(w, host, 80_000));
        }
        Fault::Drain => {
            let wanted = if rng.chance(30) { Shutdown::HandBack } else { Shutdown::Drain };
            let start = w.hosts[host].start;
            w.log(format_args!("h{host} is asked to stop: {wanted:?}"));
            w.after(0, Owner::Agent(host, start), move |w| {
                w.hosts[host].leaving = true;
                w.agent(host, Input::Shutdown(wanted));
            });
            let back = rng.between(5_000, 20_000);
            w.after(back, Owner::World, move |w| w.start_agent(host));
        }
        Fault::Evict => {
            if let Some(holder) = w.hosts[host].holder {
                w.hosts[host].leaving = true;
                w.request(move |w| routes::evict(w, holder));
                let back = rng.between(3_000, 20_000);
                w.after(back, Owner::World, move |w| undrain(w, host));
            }
        }
        Fault::Cancel => clients::cancel_one(w, rng),
        Fault::WallJump => {
            let by = i64::try_from(rng.between(0, 172_800_000)).unwrap_or(0) - 86_400_000;
            w.log(format_args!("the wall clock jumps by {by} ms"));
            w.clock.jump_wall(by);
            let wrong = w.jumped.0 + by;
            w.jumped = (wrong, w.jumped.1.max(wrong));
        }
        Fault::PauseServer
        | Fault::KillServer
        | Fault::StopServer
        | Fault::Starve
        | Fault::ReplicaSilent
        | Fault::StoreOutage
        | Fault::LostReplies
        | Fault::Uncertain
        | Fault::SlowStore
        | Fault::LockedStore
        | Fault::StoreBlip => strike_replica(w, fault, replica, rng),
    }
}

/// What strikes a server process, or its way to the store.
fn strike_replica(w: &mut World, fault: Fault, replica: usize, rng: &mut Rng) {
    match fault {
        Fault::PauseServer => {
            w.pause_server(replica);
            let woken = rng.skewed(60_000);
            w.after(woken, Owner::World, move |w| w.wake_server(replica));
        }
        Fault::KillServer => {
            w.kill_server(replica);
            let back = rng.skewed(20_000) + 50;
            w.after(back, Owner::World, move |w| w.start_server(replica));
        }
        Fault::StopServer => stop_server(w, replica, rng),
        Fault::Starve => {
            let until = w.now + rng.between(1_000, 15_000);
            w.log(format_args!("replica {replica} is starved until {until}"));
            starve(w, replica, rng.clone(), until);
        }
        Fault::StoreBlip => {
            w.replica(replica).db.weather(|weather| weather.refuse = true);
            disturb(w, replica, rng.between(50, 600));
        }
        Fault::ReplicaSilent => {
            let (both, lasts) = (rng.chance(50), rng.skewed(30_000));
            let up_only = rng.chance(50);
            let until = w.now + lasts;
            let way = &mut w.ways[replica];
            if both || up_only {
                way.up_until = way.up_until.max(until);
            }
            if both || !up_only {
                way.down_until = way.down_until.max(until);
            }
            let (up, down) = (way.up_until, way.down_until);
            w.truth.troubled_at = up.max(down);
            w.log(format_args!("replica {replica} is silent: up until {up}, down until {down}"));
        }
        Fault::StoreOutage => {
            w.log(format_args!("store refuses"));
            w.replica(replica).db.weather(|weather| weather.refuse = true);
            disturb(w, replica, rng.skewed(20_000));
        }
        Fault::LostReplies => {
            let (lose, tear) = (rng.between(5, 60), rng.between(0, 20));
            w.log(format_args!("store loses {lose} and tears {tear} of 100"));
            w.replica(replica).db.weather(|weather| (weather.lose, weather.tear) = (lose, tear));
            disturb(w, replica, rng.skewed(8_000));
        }
        Fault::Uncertain => {
            let verdicts = if rng.chance(50) { (97, 0) } else { (0, 97) };
            w.log(format_args!("store loses {} and tears {} of 100 verdicts", verdicts.0, verdicts.1));
            w.replica(replica).db.weather(|weather| weather.verdicts = verdicts);
            disturb(w, replica, rng.between(1_000, 25_000));
        }
        Fault::SlowStore => {
            let most = rng.between(20, 1_500);
            w.act_as(replica);
            w.server.store_ms = most;
            w.log(format_args!("store takes up to {most} ms"));
            disturb(w, replica, rng.skewed(8_000));
        }
        Fault::LockedStore => {
            let lasts = rng.skewed(10_000);
            w.log(format_args!("what is asked of the store waits for {lasts} ms"));
            for replica in 0..w.scenario.replicas {
                w.act_as(replica);
                let until = w.now + lasts + rng.between(0, 200);
                w.server.writer_waits(until);
                disturb(w, replica, lasts + 200);
            }
        }
        _ => {}
    }
}

/// A worker that reports under a lease that is not its own, or is not any more.
fn confused(w: &mut World, host: usize, rng: &mut Rng) {
    let leased: Vec<_> =
        w.truth.rows.values().filter(|run| run.state.is_leased()).map(|run| (run.id, run.epoch)).collect();
    let Some(sender) = w.hosts[host].holder.filter(|_| !leased.is_empty()) else { return };
    let (run_id, epoch) = leased[rng.index(leased.len())];
    let older = epoch.0 > 1 && rng.chance(50);
    let epoch = if older { Epoch(epoch.0 - 1) } else { epoch };
    // Under a lease that is its own a report may do what it says.
    let own = w.truth.rows.get(&run_id).is_some_and(|run| run.holder == Some(sender) && run.epoch == epoch);
    if own {
        return;
    }
    let op = match rng.index(3) {
        0 => Op::Progress { fraction: None, note: Some("not mine".to_owned()) },
        1 => Op::Cancelled { exit: None },
        _ => Op::Release(Wait::Nothing),
    };
    w.request(move |w| session::confused(w, sender, Item { lease: LeaseRef { run_id, epoch }, op }));
}

fn drop_connections(w: &mut World, host: usize) {
    if w.hosts[host].paused {
        return;
    }
    for link in w.open_links(host) {
        // Whose end one side alone is told: only a proxy does that, see the crate's documentation.
        let (host_way, way) = (w.hosts[host].way, w.ways[w.net.links[link].replica]);
        if [host_way, way].iter().any(|way| way.is_silent(w.now)) {
            continue;
        }
        w.log(format_args!("h{host} connection is dropped"));
        w.hosts[host].dropped_at = Some(w.now);
        w.cut(link);
    }
}

/// A proxy ends what it has between a host and the server. The server sees the end; the agent at once, late, or when the proxy
/// is asked for another connection, which it may refuse for a while. A stopped agent sees nothing.
fn proxy_drops(w: &mut World, host: usize, rng: &mut Rng) {
    if !w.hosts[host].proxied {
        return drop_connections(w, host);
    }
    let refuses = if rng.chance(50) { rng.skewed(20_000) } else { 0 };
    let told = if rng.chance(50) { rng.skewed(30_000) } else { 0 };
    w.log(format_args!("the proxy of h{host} drops its connections; tells it in {told} ms, refuses for {refuses} ms"));
    let h = &mut w.hosts[host];
    h.refused_until = h.refused_until.max(w.now + refuses);
    h.dropped_at = Some(w.now);
    if refuses > 0 {
        h.blameless_since = None;
        w.after(refuses + 1, Owner::World, move |w| {
            let h = &mut w.hosts[host];
            if h.refused_until < w.now
                && !h.way.is_silent(w.now)
                && h.agent.is_some()
                && !h.paused
                && h.blameless_since.is_none()
            {
                h.blameless_since = Some(w.now);
            }
        });
    }
    for link in w.open_links(host) {
        w.proxy_cuts(link, told);
    }
}

/// A worker that was evicted may take again.
fn undrain(w: &mut World, host: usize) {
    let Some(holder) = w.hosts[host].holder else { return };
    w.request(move |w| routes::drain(w, holder, false));
    w.hosts[host].leaving = false;
}

fn disturb(w: &mut World, replica: usize, lasts: u64) {
    w.truth.levels.disturbed.insert(replica);
    w.truth.troubled_at = w.now;
    w.after(lasts, Owner::World, move |w| fair_weather(w, replica));
}

/// It gets the processor for 5 ms in each 100 or so.
fn starve(w: &mut World, replica: usize, mut rng: Rng, until: u64) {
    w.truth.levels.disturbed.insert(replica);
    if w.now >= until {
        w.wake_server(replica);
        return fair_weather(w, replica);
    }
    w.pause_server(replica);
    let (stopped, runs) = (rng.between(60, 400), rng.between(1, 8));
    w.after(stopped, Owner::World, move |w| {
        w.wake_server(replica);
        w.after(runs, Owner::World, move |w| starve(w, replica, rng, until));
    });
}

fn fair_weather(w: &mut World, replica: usize) {
    w.act_as(replica);
    w.server.db.weather(|weather| {
        (weather.refuse, weather.lose, weather.tear, weather.verdicts) = (false, 0, 0, (0, 0));
    });
    w.server.store_ms = 2;
    w.truth.levels.disturbed.remove(&replica);
    w.truth.troubled_at = w.now;
    server::store_is_back(w);
    w.log(format_args!("store does what it should"));
}

fn silence(w: &mut World, host: usize, up: u64, down: u64) {
    let now = w.now;
    let h = &mut w.hosts[host];
    h.way.up_until = h.way.up_until.max(now + up);
    h.way.down_until = h.way.down_until.max(now + down);
    h.blameless_since = None;
    let over = h.way.up_until.max(h.way.down_until);
    w.log(format_args!("h{host} is silent: up {up} ms, down {down} ms"));
    // What was held back arrives a moment later.
    w.at(over + 500, Owner::World, move |w| {
        let h = &mut w.hosts[host];
        let open = h.way.up_until + 500 <= w.now && h.way.down_until + 500 <= w.now;
        if open && h.refused_until < w.now && h.agent.is_some() && !h.paused && h.blameless_since.is_none() {
            h.blameless_since = Some(w.now);
        }
    });
}

/// The server's own network: everybody falls silent, nobody is to blame, and nobody may be judged. Shorter than what a breaker
/// without any sign of life waits.
fn network_down(w: &mut World, lasts: u64) {
    w.log(format_args!("the network is down"));
    w.network_down = true;
    for host in 0..w.hosts.len() {
        let lasts = lasts.max(w.hosts[host].way.up_until.saturating_sub(w.now));
        silence(w, host, lasts, lasts);
    }
    w.after(lasts + 2_000, Owner::World, |w| w.network_down = false);
}

fn power_loss(w: &mut World, host: usize, back: u64) {
    w.log(format_args!("h{host} loses its power"));
    w.hosts[host].way.gone = true;
    w.kill_agent(host);
    w.lose_memory(host);
    w.after(back, Owner::World, move |w| {
        w.hosts[host].way = Way::default();
        w.start_agent(host);
    });
}

/// On purpose: sessions are told to come back, then the process ends.
fn stop_server(w: &mut World, replica: usize, rng: &mut Rng) {
    w.act_as(replica);
    if !w.server.up || w.server.paused {
        return;
    }
    w.log(format_args!("server stops on purpose"));
    w.server.stopping = true;
    let links: Vec<_> = w.server.conns.values().map(|conn| conn.link).collect();
    for link in links {
        let close =
            ServerMessage::Close { why: CloseReason::Shutdown, keep_trust_ms: KEEP_TRUST_MS, r#try: Vec::new() };
        w.down(link, Down::Message(Box::new(close)));
        w.server_closes(link);
    }
    let ends = rng.between(10, 500);
    w.after(ends, w.server.owner(), move |w| w.kill_server(replica));
    let back = ends + rng.between(50, 4_000);
    w.after(back, Owner::World, move |w| w.start_server(replica));
}

/// No more faults: everything that is broken is made whole.
pub(crate) fn heal(w: &mut World) {
    for replica in 0..w.scenario.replicas {
        fair_weather(w, replica);
        w.wake_server(replica);
        w.start_server(replica);
        w.ways[replica] = Way::default();
    }
    w.network_down = false;
    // What was scheduled by a clock that was ahead becomes due.
    w.clock.jump_wall(w.jumped.1 - w.jumped.0);
    for poller in 0..w.pollers.len() {
        w.pollers[poller].silent_until = 0;
        w.start_poller(poller);
    }
    for host in 0..w.hosts.len() {
        w.hosts[host].way = Way::default();
        w.hosts[host].refused_until = 0;
        w.wake_agent(host);
        w.start_agent(host);
        if w.hosts[host].agent.is_some() && w.hosts[host].blameless_since.is_none() {
            w.hosts[host].blameless_since = Some(w.now);
        }
    }
}

/// What ended on its own after the last fault comes back as well.
pub(crate) fn tend(w: &mut World) {
    (0..w.scenario.replicas).for_each(|replica| w.start_server(replica));
    (0..w.pollers.len()).for_each(|poller| w.start_poller(poller));
    for host in 0..w.hosts.len() {
        w.start_agent(host);
        let h = &w.hosts[host];
        if h.agent.is_some() && h.online && (h.leaving || w.drains(h)) {
            undrain(w, host);
        }
    }
    clients::release_held(w);
    w.after(5_000, Owner::World, tend);
}
