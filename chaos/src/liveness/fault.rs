//! What is done. Each notes what was seen of it, and doubts if it was not what it should be: a fault that did not happen proves
//! nothing.

use super::means::share::Share;
use super::means::sockets;
use super::means::writelock::WriteLock;
use super::stage::Stage;
use crate::link::Mode;
use crate::process::ms_since;
use crate::read;
use outlive_api::client::Client;
use outlive_api::clock::nanos;
use outlive_core::{Millis, Wall};
use rustix::process::Signal;
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_local};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    StopServer,
    StopAgents,
    Cut,
    CutProxied,
    Clock,
    Starve,
    Store,
    Storm,
    SilentHost,
}

/// An agent that is stopped for so long keeps its trust: 0.8 of the lease are 8 s, and a beat may be 2 s old.
const SHORT_STOP: Duration = Duration::from_secs(3);
/// A day, less what the clocks moved by themselves.
const ALMOST_A_DAY: Millis = Millis::hours(23);
/// Of a core, in thousandths, that a process with a share of 50 may be seen to use.
const STARVED: u64 = 80;
/// For so long, in milliseconds, the clock of a starved judge stands still at least.
const STOOD: u64 = 1_000;
/// Clients that ask a starved server without end, so that it wants more than it gets.
const ASKERS: usize = 4;

impl Fault {
    pub(super) async fn strike(self, stage: &mut Stage) -> Result<(), String> {
        match self {
            Self::StopServer => stop_server(stage).await,
            Self::StopAgents => stop_agents(stage).await,
            Self::Cut => cut(stage).await,
            Self::CutProxied => cut_proxied(stage).await,
            Self::Clock => clock(stage).await,
            Self::Starve => starve(stage).await,
            Self::Store => store(stage).await,
            Self::Storm => storm(stage).await,
            Self::SilentHost => silent_host(stage).await,
        }
    }
}

async fn pause(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn stop_server(stage: &mut Stage) -> Result<(), String> {
    for &seconds in stage.scale.stops {
        let before = stage.lag_ms().await;
        let signal = |signal| stage.server.signal(signal).map_err(|e| e.to_string());
        signal(Signal::STOP)?;
        pause(seconds).await;
        signal(Signal::CONT)?;
        stage.until("all runs execute again", Stage::all_execute).await?;
        let stood = stage.lag_ms().await.saturating_sub(before);
        stage.note(format!("stopped for {seconds} s: {stood} ms were held against nobody"));
        if stood + 500 < seconds * 1_000 {
            stage
                .doubts
                .push(format!("the server was stopped for {seconds} s, and its clock stood still for {stood} ms"));
        }
    }
    Ok(())
}

async fn stop_agents(stage: &mut Stage) -> Result<(), String> {
    for round in 1..=stage.scale.rounds {
        let names = stage.shuffled();
        let (long, short) = (&names[..1], &names[1..3]);
        stage.give_up(long).await?;
        for name in long.iter().chain(short) {
            stage.signal(name, Signal::STOP)?;
        }
        tokio::time::sleep(SHORT_STOP).await;
        for name in short {
            stage.signal(name, Signal::CONT)?;
        }
        let stopped = nanos();
        stage.until_moved().await?;
        stage.signal(&long[0], Signal::CONT)?;
        let away = ms_since(stopped) + 3_000;
        stage.note(format!("round {round}: {} stopped for {away} ms, {} for 3 s", long[0], short.join(" and ")));
        stage.until("all runs execute", Stage::all_execute).await?;
        back(stage).await?;
    }
    Ok(())
}

/// Waits until every worker that has a process is online, by itself.
async fn back(stage: &mut Stage) -> Result<(), String> {
    let all = stage.workers.len();
    stage.until("all workers are online", async |s| s.online().await.is_some_and(|n| n.len() == all)).await
}

async fn cut(stage: &mut Stage) -> Result<(), String> {
    for round in 1..=stage.scale.rounds + 2 {
        // All are found first, so that they end in the same moment.
        let mut theirs = Vec::new();
        for worker in stage.workers.values() {
            theirs.extend(sockets::borrow(worker.pid(), stage.house.port())?);
        }
        let cut = sockets::cut(&theirs);
        stage.note(format!("round {round}: {cut} connections of {} workers", stage.workers.len()));
        if cut < stage.workers.len() {
            stage.doubts.push(format!("only {cut} connections were cut"));
        }
        tokio::time::sleep(Duration::from_millis(500 + stage.rng.below(1_500))).await;
        back(stage).await?;
    }
    Ok(())
}

async fn cut_proxied(stage: &mut Stage) -> Result<(), String> {
    let refusal = stage.scale.refusal;
    for seconds in [0, 1, refusal] {
        let proxy = stage.proxy.as_ref().ok_or("no proxy")?;
        proxy.set(if seconds > 0 { Mode::Refused } else { Mode::Open });
        let cut = proxy.cut();
        pause(seconds).await;
        proxy.set(Mode::Open);
        stage.note(format!("{cut} connections cut, and refused for {seconds} s"));
        if cut < stage.workers.len() {
            stage.doubts.push(format!("only {cut} connections were cut"));
        }
        stage.until("all runs execute", Stage::all_execute).await?;
        back(stage).await?;
    }
    Ok(())
}

async fn clock(stage: &mut Stage) -> Result<(), String> {
    let each = stage.scale.outage / 4;
    let mut last: Option<Wall> = None;
    for by in ["+1d", "+0", "-1d", "+0"] {
        stage.clock.as_ref().ok_or("no clock")?.jump(by)?;
        pause(each).await;
        let now = stage.server().await.ok_or("the server does not answer after a jump of its clock")?.now;
        if let Some(before) = last.replace(now)
            && now.since(before).max(before.since(now)) < ALMOST_A_DAY
        {
            stage.doubts.push(format!("the server's clock did not jump to {by}"));
        }
        stage.until("all runs execute", Stage::all_execute).await?;
    }
    stage.note(format!("jumps of a day forth, back, back, and forth, each for {each} s"));
    Ok(())
}

async fn starve(stage: &mut Stage) -> Result<(), String> {
    let pid = stage.server.pid();
    let askers: Vec<_> = (0..ASKERS).map(|_| spawn_local(ask(stage.client.clone()))).collect();
    let lag = stage.lag_ms().await;
    let (before, begun) = (cpu_ms(pid), nanos());
    let share = Share::of(pid)?;
    pause(stage.scale.outage).await;
    let thousandths = (cpu_ms(pid) - before) * 1_000 / ms_since(begun).max(1);
    let means = share.means();
    drop(share);
    askers.iter().for_each(JoinHandle::abort);
    stage.until("all runs execute", Stage::all_execute).await?;
    let stood = stage.lag_ms().await.saturating_sub(lag);
    stage.note(format!(
        "{means}: the server had {thousandths} ‰ of a core for {} s; {stood} ms were held against nobody",
        stage.scale.outage
    ));
    if thousandths > STARVED || stood < STOOD {
        stage.doubts.push(format!("the server was not starved: {thousandths} ‰ of a core, its clock stood {stood} ms"));
    }
    back(stage).await
}

/// Asks for all runs, again and again.
async fn ask(client: Client) {
    loop {
        drop(read::all(&client).await);
        tokio::task::yield_now().await;
    }
}

/// Processor time of a process, in milliseconds.
fn cpu_ms(pid: u32) -> u64 {
    const MS_PER_TICK: u64 = 10;
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * MS_PER_TICK
}

async fn store(stage: &mut Stage) -> Result<(), String> {
    let lock = WriteLock::take(&stage.house.store())?;
    let held = lock.holds();
    let noticed = async |s: &Stage| {
        let judge = s.server().await.map(|s| s.judge);
        judge.and_then(|j| j.held_back_by).is_some_and(|why| why.contains("store"))
    };
    stage.until("the server knows that its store does not commit", noticed).await?;
    pause(stage.scale.outage).await;
    if !held || !lock.holds() {
        stage.doubts.push("others could write".to_owned());
    }
    if !noticed(stage).await {
        stage.doubts.push("the store committed before the outage was over".to_owned());
    }
    drop(lock);
    stage.note(format!("the write lock was held for more than {} s", stage.scale.outage));
    let commits = async |s: &Stage| s.server().await.is_some_and(|s| s.judge.punctual);
    stage.until("the server's judge is punctual again", commits).await?;
    stage.until("all runs execute", Stage::all_execute).await?;
    back(stage).await
}

async fn storm(stage: &mut Stage) -> Result<(), String> {
    let names = stage.shuffled();
    let half = &names[..names.len() / 2];
    let many = stage.give_up(half).await?;
    let killed = nanos();
    let mut dead: Vec<_> = half.iter().filter_map(|name| stage.workers.remove(name)).collect();
    for worker in &dead {
        worker.signal(Signal::KILL).map_err(|e| e.to_string())?;
    }
    stage.until_moved().await?;
    stage.note(format!("{} killed, {many} runs executed elsewhere after {} ms", half.join(", "), ms_since(killed)));
    dead.clear();
    stage.until("all runs execute", Stage::all_execute).await
}

async fn silent_host(stage: &mut Stage) -> Result<(), String> {
    let name = ["w-1".to_owned()];
    let many = stage.give_up(&name).await?;
    if many == 0 {
        stage.doubts.push("the host had no run".to_owned());
    }
    let silent = nanos();
    stage.namespace.as_ref().ok_or("no namespace")?.cable(false)?;
    stage.until_moved().await?;
    stage.note(format!("{many} runs executed elsewhere after {} ms", ms_since(silent)));
    stage.namespace.as_ref().ok_or("no namespace")?.cable(true)?;
    stage.until("all runs execute", Stage::all_execute).await?;
    back(stage).await
}
