//! How each blow is dealt. Each writes into the ledger what it did to whom, and doubts if it was not what it should be.

use super::ledger::Deed;
use super::schedule::{Blow, Step};
use super::stage::{Stage, blocking, said};
use crate::process::ms_since;
use outlive_api::clock::nanos;
use rustix::process::Signal;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::task::spawn_local;

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
        let database = Arc::clone(&stage.database);
        let statement = format!(
            "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = 'outlive' AND pid % {share} = 0) AS ended"
        );
        let asked = blocking(move || {
            let database = database.lock().unwrap_or_else(PoisonError::into_inner);
            database.sql("postgres", &statement)
        });
        let count = asked.await?.map_err(said("connections cannot be ended"))?;
        killed += count.parse::<u64>().unwrap_or(0);
        pause(300).await;
    }
    stage.note(&format!("{killed} connections were ended"));
    if killed == 0 {
        stage.doubt("no connection of the database was ended".to_owned());
    }
    Ok(())
}
