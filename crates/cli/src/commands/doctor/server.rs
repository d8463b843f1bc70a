//! The server: whether it answers, its clock, its version, its judge, its duties, its workers.

use super::file;
use super::finding::Finding;
use outlive_api::client::{Client, ClientError};
use outlive_api::clock::SystemClock;
use outlive_api::ops::Server;
use outlive_api::queues::Queue;
use outlive_api::workers::Worker;
use outlive_core::clock::Clock as _;
use outlive_core::{Millis, Wall};
use outlive_server::StoreLocation;
use std::net::{SocketAddr, TcpListener};

/// People compare times of several machines by eye: half of this they do not notice.
const SKEW: Millis = Millis::secs(2);
/// A duty that has not succeeded for so many of its periods has stopped.
const MISSED: u64 = 10;
/// Duties that run often may be late by this much.
const LATE: Millis = Millis::secs(30);

/// What the server says of itself.
pub(super) enum Seen {
    /// It answers.
    Server(Box<Answers>),
    /// It does not.
    None(ClientError),
}

pub(super) struct Answers {
    address: String,
    server: Server,
    queues: Vec<Queue>,
    workers: Vec<Worker>,
    asked: Wall,
    answered: Wall,
}

pub(super) async fn look(client: &Client) -> Seen {
    let asked = SystemClock.wall();
    let server = match client.server().await {
        Ok(server) => server,
        Err(e) => return Seen::None(e),
    };
    let answered = SystemClock.wall();
    let queues = client.queues().await.map(|q| q.queues).unwrap_or_default();
    let workers = client.workers().await.map(|w| w.workers).unwrap_or_default();
    let address = client.authority().to_owned();
    Seen::Server(Box::new(Answers { address, server, queues, workers, asked, answered }))
}

impl Seen {
    /// The least TTL of the queues.
    pub(super) fn least_ttl(&self) -> Option<Millis> {
        match self {
            Self::Server(a) => a.queues.iter().map(|q| q.policy.lease_ttl).min(),
            Self::None(_) => None,
        }
    }

    /// Whether the server that answers has this file open.
    pub(super) fn store_is_open_here(&self, location: &StoreLocation, is_local: bool) -> bool {
        let (Self::Server(a), Some(path)) = (self, file(location)) else { return false };
        let same = |p: &str| std::fs::canonicalize(p).ok().is_some_and(|p| std::fs::canonicalize(path).ok() == Some(p));
        is_local && same(&a.server.store.location)
    }
}

pub(super) fn findings(seen: &Seen, listen: SocketAddr) -> Vec<Finding> {
    match seen {
        Seen::Server(a) => {
            let skew = skew(a.asked, a.server.now, a.answered);
            vec![
                answers(a),
                store(&a.server),
                clock(skew),
                version(&a.server, &a.workers),
                judge(&a.server),
                duties(&a.server),
            ]
        }
        Seen::None(error) => vec![absent(error, TcpListener::bind(listen).err().as_ref(), listen)],
    }
}

fn answers(a: &Answers) -> Finding {
    let took = a.answered.0 - a.asked.0;
    let online = a.workers.iter().filter(|w| w.status == "online").count();
    let found = format!("{} answers in {took} ms: {online} workers online, {} leases", a.address, a.server.leases);
    if online == 0 {
        return Finding::warning("server", found, "no worker takes work: start one with: outlive worker --allow-exec");
    }
    Finding::ok("server", found)
}

fn absent(error: &ClientError, refused: Option<&std::io::Error>, listen: SocketAddr) -> Finding {
    let found = match error {
        ClientError::Unreachable { address, detail } => format!("none answers at {address} ({detail})"),
        other => format!("what answers is no server of this kind: {other}"),
    };
    match refused {
        None => Finding::warning(
            "server",
            format!("{found}; {listen} is free"),
            "start one with: outlive dev, or outlive server",
        ),
        Some(e) => Finding::problem(
            "server",
            format!("{found}; a server could not listen on {listen}: {e}"),
            "see who has the port (ss -ltnp), or choose another with --listen, and tell workers with --server",
        ),
    }
}

fn store(server: &Server) -> Finding {
    let store = &server.store;
    let size = store.bytes.map_or_else(String::new, |b| format!(", {} MiB", b >> 20));
    let found = format!("{} {}{size}, schema {}", store.backend, store.location, store.schema_version);
    match &store.disk {
        Some(disk) if !disk.admits_new_runs => {
            let free = disk.free_bytes.unwrap_or_default() >> 20;
            let found = format!("{found}; {free} MiB free in {}, new runs are refused", disk.folder);
            Finding::problem("store", found, "make room, or set --low-disk lower: runs that there are go on meanwhile")
        }
        _ => Finding::ok("store", found),
    }
}

/// By how much the server's clock is ahead: nothing, if its time lies between question and answer.
fn skew(asked: Wall, theirs: Wall, answered: Wall) -> i64 {
    if theirs < asked { theirs.0 - asked.0 } else { (theirs.0 - answered.0).max(0) }
}

fn clock(skew: i64) -> Finding {
    let found = match skew {
        0 => "this machine's and the server's agree".to_owned(),
        ahead @ 1.. => format!("the server's is {} ahead", Millis(ahead.unsigned_abs())),
        behind => format!("the server's is {} behind", Millis(behind.unsigned_abs())),
    };
    if skew.unsigned_abs() > SKEW.0 {
        let advice = "nobody is taken for dead by it, but times in lists and logs mislead: run NTP on both";
        return Finding::warning("clock", found, advice);
    }
    Finding::ok("clock", found)
}

fn version(server: &Server, workers: &[Worker]) -> Finding {
    let here = crate::VERSION;
    let others: Vec<_> = workers
        .iter()
        .filter(|w| w.status != "left" && w.status != "offline" && w.version != server.version)
        .map(|w| format!("{} {}", w.name, w.version))
        .collect();
    let found = format!("server {}, this {here}, {} of {} workers differ", server.version, others.len(), workers.len());
    if server.version == here && others.is_empty() {
        return Finding::ok("versions", found);
    }
    if !server.protocols.contains(&outlive_api::PROTOCOL) {
        let advice = format!(
            "the server speaks protocol {:?}, this build {}: upgrade the older",
            server.protocols,
            outlive_api::PROTOCOL
        );
        return Finding::problem("versions", found, advice);
    }
    let named = if others.is_empty() { String::new() } else { format!(": {}", others.join(", ")) };
    Finding::warning("versions", found, format!("they understand each other; finish the upgrade{named}"))
}

fn judge(server: &Server) -> Finding {
    let lag = Millis(server.judge.lag_ms);
    let found = format!("could not have heard for {lag} of {}", Millis(server.uptime_ms));
    if let Some(why) = server.judge.held_back_by.as_ref().or(server.judge.breaker.as_ref()) {
        let advice = format!("verdicts by absence wait now: {why}. Work goes on, deaths are noticed late");
        return Finding::warning("judge", found, advice);
    }
    if server.judge.lag_ms.saturating_mul(10) > server.uptime_ms && server.uptime_ms > LATE.0 {
        return Finding::warning("judge", found, "the server often stalls: look at its processor, disk and memory");
    }
    Finding::ok("judge", found)
}

fn duties(server: &Server) -> Finding {
    let stopped: Vec<_> = server
        .phases
        .iter()
        .filter(|p| {
            let patience = Millis(p.every_ms.saturating_mul(MISSED)).max(LATE);
            let since = p.last_success_at.map_or(server.uptime_ms, |at| (server.now.0 - at.0).max(0).unsigned_abs());
            since > patience.0
        })
        .map(|p| p.last_error.as_ref().map_or_else(|| p.name.clone(), |e| format!("{} ({e})", p.name)))
        .collect();
    if stopped.is_empty() {
        return Finding::ok("duties", format!("all {} run", server.phases.len()));
    }
    let found =
        format!("{} of {} have not succeeded for long: {}", stopped.len(), server.phases.len(), stopped.join(", "));
    Finding::problem("duties", found, "see the server's log; outlive stuck shows which runs wait because of it")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use outlive_api::ops::{Judge, Phase, ServerStore};

    fn server() -> Server {
        Server {
            version: crate::VERSION.to_owned(),
            protocols: vec![outlive_api::PROTOCOL],
            replica: 1,
            replicas: Vec::new(),
            now: Wall(1_000_000),
            uptime_ms: 600_000,
            store: ServerStore {
                backend: "sqlite".into(),
                location: "x".into(),
                generation: uuid::Uuid::nil(),
                bytes: None,
                schema_version: 1,
                disk: None,
            },
            judge: Judge { observed_ms: 0, lag_ms: 10, punctual: true, held_back_by: None, breaker: None },
            sessions: 0,
            leases: 0,
            phases: vec![phase(Some(990_000))],
            settings: Vec::new(),
        }
    }

    fn phase(at: Option<i64>) -> Phase {
        Phase {
            lost_race: 0,
            failed_rows: 0,
            not_owner: 0,
            name: "due".into(),
            every_ms: 1_000,
            last_success_at: at.map(Wall),
            ticks: 1,
            found: 0,
            acted: 0,
            failed: 0,
            last_error: Some("disk".into()),
        }
    }

    #[test]
    fn a_clock_is_off_by_what_question_and_answer_do_not_explain() {
        assert_eq!(skew(Wall(10), Wall(12), Wall(20)), 0);
        assert_eq!(skew(Wall(10_000), Wall(4_000), Wall(10_001)), -6_000);
        assert_eq!(skew(Wall(10), Wall(5_020), Wall(20)), 5_000);
        assert_eq!(clock(-6_000).verdict, Verdict::Warning);
        assert_eq!(clock(500).verdict, Verdict::Ok);
    }

    #[test]
    fn a_duty_that_stopped_is_named_with_its_error() {
        assert_eq!(duties(&server()).verdict, Verdict::Ok);
        let stopped = Server { phases: vec![phase(Some(900_000))], ..server() };
        let found = duties(&stopped);
        assert_eq!(found.verdict, Verdict::Problem);
        assert!(found.found.contains("due (disk)"), "{found:?}");
        assert_eq!(duties(&Server { phases: vec![phase(None)], ..server() }).verdict, Verdict::Problem);
    }

    #[test]
    fn another_protocol_is_a_problem_and_another_version_is_not() {
        assert_eq!(version(&server(), &[]).verdict, Verdict::Ok);
        let older = Server { version: "0.0.9".into(), ..server() };
        assert_eq!(version(&older, &[]).verdict, Verdict::Warning);
        assert_eq!(version(&Server { protocols: vec![99], ..older }, &[]).verdict, Verdict::Problem);
    }

    #[test]
    fn a_judge_that_is_held_back_says_why() {
        assert_eq!(judge(&server()).verdict, Verdict::Ok);
        let held = Judge {
            observed_ms: 0,
            lag_ms: 0,
            punctual: false,
            held_back_by: Some("the store is slow".into()),
            breaker: None,
        };
        assert!(judge(&Server { judge: held, ..server() }).advice.unwrap().contains("the store is slow"));
        let stalls = Judge { observed_ms: 0, lag_ms: 90_000, punctual: true, held_back_by: None, breaker: None };
        assert_eq!(judge(&Server { judge: stalls, ..server() }).verdict, Verdict::Warning);
    }

    #[test]
    fn a_port_that_is_taken_is_a_problem_and_a_free_one_is_not() {
        let error = || ClientError::Unreachable { address: "x".into(), detail: "refused".into() };
        let listen = "127.0.0.1:7070".parse().unwrap();
        assert_eq!(absent(&error(), None, listen).verdict, Verdict::Warning);
        let taken = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        assert_eq!(absent(&error(), Some(&taken), listen).verdict, Verdict::Problem);
    }
}
