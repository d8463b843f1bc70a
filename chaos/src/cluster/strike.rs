//! How each blow is dealt. Each writes into the ledger what it did to whom, and doubts if it was not what it should be.

use super::ledger::Deed;
use super::schedule::{Blow, Step};
use super::stage::{POOL, Seat, Stage, blocking, config, said};
use crate::link::Mode;
use crate::process::ms_since;
use outlive_api::clock::nanos;
use rustix::process::Signal;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::task::spawn_local;
use tokio_postgres::NoTls;

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Deals all blows of a step at once, and waits until everything answers again.
pub(super) async fn strike(stage: &Rc<Stage>, step: &Step) -> Result<(), String> {
    let blows: Vec<_> = step
        .blows
        .iter()
        .map(|blow| {
            let (stage, blow) = (Rc::clone(stage), blow.clone());
            spawn_local(async move { deal(&stage, &blow).await })
        })
        .collect();
    for blow in blows {
        blow.await.map_err(said("a blow failed"))??;
    }
    let dealt = nanos();
    stage.settle().await?;
    stage.troubles_are_over();
    stage.note(&format!("all is well after {} ms", ms_since(dealt)));
    pause(step.pause).await;
    Ok(())
}

async fn deal(stage: &Stage, blow: &Blow) -> Result<(), String> {
    match blow {
        Blow::KillReplica { seat, away } => kill_replica(stage, *seat, *away).await,
        Blow::StopReplica { seat, stands } => stop_replica(stage, *seat, *stands).await,
        Blow::KillAgents { who, away } => kill_agents(stage, who, *away).await,
        Blow::PauseAgents { who, stands } => stop_agents(stage, who, *stands, false).await,
        Blow::StopAgents { who, stands } => stop_agents(stage, who, *stands, true).await,
        Blow::CrashDatabase => crash_database(stage).await,
        Blow::KillBackends { times, share } => kill_backends(stage, *times, *share).await,
        Blow::ExhaustConnections { lasts } => exhaust_connections(stage, *lasts).await,
        Blow::CutStore { seat, dark, lasts } => cut_store(stage, *seat, *dark, *lasts).await,
        Blow::HalfOpen { seat, lasts, heals } => half_open(stage, *seat, *lasts, *heals).await,
        Blow::SlowStore { late, lasts } => slow_store(stage, *late, *lasts).await,
        Blow::KillRedis { away } => one_at_redis(stage, kill_redis(stage, *away)).await,
        Blow::StallRedis { stands } => one_at_redis(stage, stall_redis(stage, *stands)).await,
        Blow::FlushRedis { times } => one_at_redis(stage, flush_redis(stage, *times)).await,
        Blow::Roll => roll(stage).await,
    }
}

async fn kill_replica(stage: &Stage, seat: usize, away: u64) -> Result<(), String> {
    stage.trouble(format!("{} is killed, for {away} ms", stage.seats[seat].name));
    drop(stage.seats[seat].process.take());
    pause(away).await;
    stage.serve(seat)
}

async fn stop_replica(stage: &Stage, seat: usize, stands: u64) -> Result<(), String> {
    stage.trouble(format!("{} is stopped, for {stands} ms", stage.seats[seat].name));
    Stage::signal(&stage.seats[seat].process, Signal::STOP)?;
    pause(stands).await;
    Stage::signal(&stage.seats[seat].process, Signal::CONT)
}

fn names(stage: &Stage, who: &[usize]) -> String {
    who.iter().map(|&agent| stage.agents[agent].name.as_str()).collect::<Vec<_>>().join(", ")
}

async fn kill_agents(stage: &Stage, who: &[usize], away: u64) -> Result<(), String> {
    stage.note(&format!("{} killed, for {away} ms", names(stage, who)));
    let mut deeds = Vec::new();
    for &agent in who {
        deeds.push(stage.deed(Deed::Killed, agent));
        drop(stage.agents[agent].process.take());
    }
    pause(away).await;
    for (&agent, deed) in who.iter().zip(deeds) {
        stage.deed_is_over(deed);
        stage.hire(agent)?;
    }
    Ok(())
}

async fn stop_agents(stage: &Stage, who: &[usize], stands: u64, beyond_a_lease: bool) -> Result<(), String> {
    stage.note(&format!("{} stopped, for {stands} ms", names(stage, who)));
    let mut deeds = Vec::new();
    for &agent in who {
        // What is shorter than a lease explains nothing.
        deeds.extend(beyond_a_lease.then(|| stage.deed(Deed::Stopped, agent)));
        Stage::signal(&stage.agents[agent].process, Signal::STOP)?;
    }
    pause(stands).await;
    for &agent in who {
        Stage::signal(&stage.agents[agent].process, Signal::CONT)?;
    }
    deeds.into_iter().for_each(|deed| stage.deed_is_over(deed));
    Ok(())
}

async fn crash_database(stage: &Stage) -> Result<(), String> {
    stage.trouble("the database crashes".to_owned());
    let database = Arc::clone(&stage.database);
    let begun = nanos();
    blocking(move || database.lock().unwrap_or_else(PoisonError::into_inner).crash_and_restart())
        .await?
        .map_err(said("the database does not start again"))?;
    stage.note(&format!("the database is back after {} ms", ms_since(begun)));
    Ok(())
}

async fn kill_backends(stage: &Stage, times: u32, share: u64) -> Result<(), String> {
    stage.trouble(format!("the database ends each {share}. connection, {times} times"));
    let mut killed = 0;
    for _ in 0..times {
        killed += end_backends(stage, share).await?;
        pause(300).await;
    }
    stage.note(&format!("{killed} connections were ended"));
    if killed == 0 {
        stage.doubt("no connection of the database was ended".to_owned());
    }
    Ok(())
}

/// Ends connections of replicas, or of the pgbouncer before them.
fn ending(share: u64) -> String {
    format!(
        "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' \
         AND application_name NOT IN ('chaos', 'psql', '{STRANGER}') AND pid % {share} = 0) AS ended"
    )
}

/// The name of connections that keep others from having one.
const STRANGER: &str = "stranger";

/// By the database's own hand; how many there were.
async fn end_backends(stage: &Stage, share: u64) -> Result<u64, String> {
    let database = Arc::clone(&stage.database);
    let asked = blocking(move || {
        let database = database.lock().unwrap_or_else(PoisonError::into_inner);
        database.sql("postgres", &ending(share))
    });
    let count = asked.await?.map_err(said("connections cannot be ended"))?;
    Ok(count.parse().unwrap_or(0))
}

async fn exhaust_connections(stage: &Stage, lasts: u64) -> Result<(), String> {
    stage.trouble(format!("strangers take all connections of the database, for {lasts} ms"));
    let (taken, ended) = match &stage.bouncer {
        None => {
            let config = config(&stage.database(), STRANGER);
            take_all(config, lasts).await
        }
        Some(bouncer) => occupy(bouncer.url("postgres"), lasts).await?,
    };
    stage.note(&format!("strangers had {taken} connections, {ended} of the replicas ended"));
    if taken == 0 {
        stage.doubt("strangers got no connection".to_owned());
    }
    Ok(())
}

/// Takes what there is, ends what the replicas have, and takes what that leaves, over and over.
async fn take_all(config: tokio_postgres::Config, lasts: u64) -> (usize, i64) {
    let (begun, mut held, mut ended) = (nanos(), Vec::new(), 0);
    while ms_since(begun) < lasts {
        match (config.connect(NoTls).await, held.first()) {
            (Ok((client, connection)), _) => {
                spawn_local(async move { drop(connection.await) });
                held.push(client);
            }
            // There is none left: now those that others have.
            (Err(_), Some(client)) if ended == 0 => {
                let row = tokio_postgres::Client::query_one(client, &ending(1), &[]).await;
                ended = row.map_or(0, |row| row.get(0));
            }
            (Err(_), _) => pause(5).await,
        }
    }
    (held.len(), ended)
}

/// Statements that take their time have everything that the pgbouncer shares out.
async fn occupy(url: String, lasts: u64) -> Result<(usize, i64), String> {
    let sleep = format!("SELECT pg_sleep({}.{:03})", lasts / 1_000, lasts % 1_000);
    let sleepers = (0..POOL).map(|_| {
        let (url, sleep) = (url.clone(), sleep.clone());
        tokio::task::spawn_blocking(move || outlive_pg_private::ask(&url, &sleep).is_ok())
    });
    let mut slept = 0;
    for sleeper in sleepers.collect::<Vec<_>>() {
        slept += usize::from(sleeper.await.map_err(said("a thread failed"))?);
    }
    Ok((slept, 0))
}

async fn cut_store(stage: &Stage, seat: usize, dark: bool, lasts: u64) -> Result<(), String> {
    let Seat { name, link, .. } = &stage.seats[seat];
    let how = if dark { "hears nothing of" } else { "is refused by" };
    stage.trouble(format!("{name} {how} the database, for {lasts} ms"));
    let open = link.open();
    link.set(if dark { Mode::Dark } else { Mode::Refused });
    if !dark {
        link.cut();
    }
    if open == 0 {
        stage.doubt(format!("{name} had no connection to the database"));
    }
    pause(lasts).await;
    link.set(Mode::Open);
    Ok(())
}

async fn half_open(stage: &Stage, seat: usize, lasts: u64, heals: bool) -> Result<(), String> {
    let way = &stage.ways[seat];
    let name = &stage.seats[seat].name;
    let how = if heals { "then everything that was kept comes" } else { "then they end" };
    stage.trouble(format!("{} connections to {name} are half-open for {lasts} ms; {how}", way.open()));
    way.set(Mode::Dark);
    pause(lasts).await;
    if !heals {
        way.cut();
    }
    way.set(Mode::Open);
    Ok(())
}

async fn slow_store(stage: &Stage, late: u64, lasts: u64) -> Result<(), String> {
    stage.trouble(format!("the database is {late} ms away, for {lasts} ms"));
    let set = |mode| stage.seats.iter().for_each(|seat| seat.link.set(mode));
    set(Mode::Slow(Duration::from_millis(late)));
    pause(lasts).await;
    set(Mode::Open);
    Ok(())
}

/// Redis is struck by one at a time: what is not there forgets nothing and cannot be stopped.
async fn one_at_redis(stage: &Stage, blow: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    if stage.redis_is_struck.replace(true) {
        return Ok(());
    }
    let done = blow.await;
    stage.redis_is_struck.set(false);
    done
}

/// It is never the truth: nothing that is done to it may be seen, so nothing of it is a trouble.
async fn kill_redis(stage: &Stage, away: u64) -> Result<(), String> {
    stage.note(&format!("redis is killed, for {away} ms"));
    stage.redis.borrow_mut().kill();
    pause(away).await;
    stage.redis.borrow_mut().start_again()
}

async fn stall_redis(stage: &Stage, stands: u64) -> Result<(), String> {
    stage.note(&format!("redis stands still, for {stands} ms"));
    stage.redis.borrow().stall(true)?;
    pause(stands).await;
    stage.redis.borrow().stall(false)
}

async fn flush_redis(stage: &Stage, times: u32) -> Result<(), String> {
    stage.note(&format!("redis forgets everything, {times} times"));
    for _ in 0..times {
        stage.redis.borrow().flush()?;
        pause(200).await;
    }
    Ok(())
}

/// Agents that are started again at once.
const ROLLED: usize = 5;
/// So long, in milliseconds, an agent may finish what it has, before it hands it back.
const DRAINS: u64 = 1_000;

async fn roll(stage: &Stage) -> Result<(), String> {
    stage.trouble("everything is stopped in order and started again, one after the other".to_owned());
    for seat in 0..stage.seats.len() {
        Stage::signal(&stage.seats[seat].process, Signal::TERM)?;
        stage.gone(&stage.seats[seat].process, &stage.seats[seat].name).await?;
        stage.serve(seat)?;
        stage.until("the replica answers again", async |s| s.is_ready(seat).await).await?;
    }
    let all: Vec<usize> = (0..stage.agents.len()).collect();
    for some in all.chunks(ROLLED) {
        let deeds: Vec<_> = some.iter().map(|&agent| stage.deed(Deed::Released, agent)).collect();
        for &agent in some {
            Stage::signal(&stage.agents[agent].process, Signal::TERM)?;
        }
        pause(DRAINS).await;
        for (&agent, deed) in some.iter().zip(deeds) {
            // Who had nothing is gone already.
            drop(Stage::signal(&stage.agents[agent].process, Signal::TERM));
            stage.gone(&stage.agents[agent].process, &stage.agents[agent].name).await?;
            stage.deed_is_over(deed);
            stage.hire(agent)?;
        }
    }
    stage.note("everything was started again");
    Ok(())
}
