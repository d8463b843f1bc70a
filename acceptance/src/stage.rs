//! The server, the worker, the rival, and what each step does and waits for.

use crate::scenario::{Expect, LEASE_TTL, NetworkStep, Scenario, ServerStep, Step, Submit, Until, WorkerStep};
use crate::wire::Wire;
use crate::{Failed, Subject};
use outlive_api::client::Client;
use outlive_api::report::{OpName, WireItem};
use outlive_api::runs::{CancelBody, NewRun, Run};
use outlive_api::session::Lease;
use outlive_api::workers::{ClaimBody, Register, Registered, ReportBody, WireLiveness};
use outlive_core::policy::QueuePolicy;
use outlive_core::{Json, Millis, RunId};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Between two looks.
const GLANCE: Duration = Duration::from_millis(20);
/// Looks before a step has failed: 20 s.
const LOOKS: u32 = 1_000;
/// Marks of the rival, one at each glance: a second of work.
const RIVAL_MARKS: usize = 50;
/// The name of the worker under test.
const NAME: &str = "under-test";
/// Between TERM and KILL.
const CANCEL_GRACE: Millis = Millis::secs(1);

/// What every script begins with: marks for the check of overlap, and checkpoints, by whichever way the worker has.
const PRELUDE: &str = r#"
mark() { echo "$OUTLIVE_EPOCH $*" >> "$MARKS"; }
checkpoint() {
  if [ -n "$OUTLIVE_SOCKET" ]; then "$OUTLIVE_BIN" step checkpoint "$1"
  else printf '%s' "$1" > "$OUTLIVE_CHECKPOINT_FILE.new" && mv "$OUTLIVE_CHECKPOINT_FILE.new" "$OUTLIVE_CHECKPOINT_FILE"; fi
}
saved() { if [ -s "$OUTLIVE_CHECKPOINT_FILE" ]; then tr -cd 0-9 < "$OUTLIVE_CHECKPOINT_FILE"; else echo 0; fi; }
"#;

type Seen<T = ()> = Result<T, String>;

pub(crate) struct Stage<'a> {
    subject: &'a Subject,
    folder: TempDir,
    server: Child,
    wire: Wire,
    worker: Child,
    client: Client,
    runs: HashMap<String, RunId>,
    rival: Option<Registered>,
    leases: HashMap<String, Lease>,
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        kill_all(self.folder.path());
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl<'a> Stage<'a> {
    /// A server, a worker, and the wire between them.
    pub(crate) async fn open(subject: &'a Subject, scenario: &Scenario) -> Result<Self, Failed> {
        let failed = |what: String| Failed::Stage(format!("{}: {what}", scenario.name));
        let folder = tempfile::Builder::new().prefix("acc").tempdir().map_err(|e| failed(text(e)))?;
        let (server, address) = serve(subject, folder.path(), "127.0.0.1:0").await.map_err(failed)?;
        let wire = Wire::open(address).await.map_err(|e| failed(text(e)))?;
        let client = Client::new(&address.to_string(), "default").map_err(|e| failed(text(e)))?;
        let worker = hire(subject, folder.path(), &wire).map_err(failed)?;
        let (runs, leases) = (HashMap::new(), HashMap::new());
        let stage = Self { subject, folder, server, wire, worker, client, runs, rival: None, leases };
        stage.prepare().await.map_err(failed)?;
        Ok(stage)
    }

    async fn prepare(&self) -> Seen {
        let policy = QueuePolicy { lease_ttl: LEASE_TTL, cancel_grace: CANCEL_GRACE, ..QueuePolicy::default() };
        self.client.put_queue("default", policy).await.map_err(text)?;
        self.until(async || {
            let workers = self.client.workers().await.map_err(text)?;
            let online = workers.workers.iter().any(|w| w.name == NAME && w.status == "online");
            if online { Ok(Ok(())) } else { Ok(Err("the worker has not registered".to_owned())) }
        })
        .await
    }

    /// Looks until it holds: `Ok(Ok)` it does, `Ok(Err)` not yet, `Err` never.
    async fn until<T>(&self, look: impl AsyncFn() -> Seen<Seen<T>>) -> Seen<T> {
        let mut last = String::new();
        for _ in 0..LOOKS {
            match look().await? {
                Ok(found) => return Ok(found),
                Err(not_yet) => last = not_yet,
            }
            tokio::time::sleep(GLANCE).await;
        }
        Err(format!("did not come true: {last}"))
    }

    /// What the worker and the server said, for whoever has to find out.
    pub(crate) fn said(&self) -> String {
        let tail = |name: &str| {
            let text = fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
            let lines: Vec<_> = text.lines().rev().take(25).collect();
            lines.into_iter().rev().flat_map(|l| ["   ", l, "\n"]).collect::<String>()
        };
        format!("the worker said:\n{}the server said:\n{}", tail("worker.log"), tail("server.log"))
    }

    fn id(&self, run: &str) -> Seen<RunId> {
        self.runs.get(run).copied().ok_or_else(|| format!("no step has submitted {run}"))
    }

    fn marks_file(&self, run: &str) -> PathBuf {
        self.folder.path().join(format!("marks-{run}"))
    }

    fn marks(&self, run: &str) -> Vec<String> {
        let text = fs::read_to_string(self.marks_file(run)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) async fn step(&mut self, step: &Step) -> Seen {
        match step {
            Step::Submit(submit) => self.submit(submit).await,
            Step::Until(until) => self.until_run(until).await,
            Step::UntilGone(run) => self.until_gone(run).await,
            Step::UntilWorkerEnds(code) => self.until_worker_ends(*code).await,
            Step::UntilReplyLost => {
                self.until(async || Ok(if self.wire.has_lost() { Ok(()) } else { Err("no such reply".into()) })).await
            }
            Step::Worker(WorkerStep::Start) => {
                self.worker = hire(self.subject, self.folder.path(), &self.wire)?;
                Ok(())
            }
            Step::Worker(WorkerStep::Term) => self.worker.id().map_or(Ok(()), |pid| signal("-TERM", &[pid])),
            Step::Worker(WorkerStep::Kill) => self.kill_host().await,
            Step::Server(how) => self.server(*how).await,
            Step::Network(how) => {
                self.wire.hold(*how == NetworkStep::Hold);
                Ok(())
            }
            Step::LoseReply(of) => {
                self.wire.lose(of);
                Ok(())
            }
            Step::Cancel(run) => {
                self.client.cancel_run(self.id(run)?, &CancelBody::default()).await.map(drop).map_err(text)
            }
            Step::TakeOver => self.rival_registers(NAME).await,
            Step::RivalClaims(run) => self.rival_claims(run).await,
            Step::RivalCompletes(run) => self.rival_completes(run).await,
            Step::Expect(expect) => self.expect(expect).await,
        }
    }

    async fn submit(&mut self, submit: &Submit) -> Seen {
        let mut env = submit.env.clone();
        env.insert("MARKS".into(), self.marks_file(&submit.run).display().to_string());
        env.insert("OUTLIVE_BIN".into(), self.subject.outlive.display().to_string());
        let script = format!("{PRELUDE}{}", submit.script);
        let mut input = serde_json::json!({ "command": ["sh", "-c", script], "env": env });
        if let Some(stdin) = &submit.stdin {
            input["stdin"] = stdin.as_str().into();
        }
        let run = NewRun { max_attempts: submit.max_attempts, ..NewRun::of("exec", Json::of(&input).map_err(text)?) };
        let created = self.client.create_run(&run, None).await.map_err(text)?;
        self.runs.insert(submit.run.clone(), created.id);
        Ok(())
    }

    async fn until_run(&self, want: &Until) -> Seen {
        let asks = want.state.is_some() || want.losses.is_some() || want.checkpoint.is_some();
        self.until(async || {
            let marks = self.marks(&want.run);
            let mut is = want.marks.is_none_or(|n| marks.len() >= n);
            if !asks {
                return Ok(if is { Ok(()) } else { Err(format!("{} has left the marks {marks:?}", want.run)) });
            }
            let run = self.client.run(self.id(&want.run)?).await.map_err(text)?;
            let checkpoint = run.checkpoint.as_ref().and_then(|json| json.read::<serde_json::Value>().ok());
            is &= want.state.is_none_or(|s| run.state == s)
                && want.losses.is_none_or(|n| run.losses >= n)
                && want.checkpoint.as_ref().is_none_or(|wanted| checkpoint.as_ref() == Some(wanted));
            let seen = format!("{} is {}, {}, marks {marks:?}", want.run, run.state, told(&run));
            if is {
                Ok(Ok(()))
            } else if run.state.is_terminal() {
                Err(seen)
            } else {
                Ok(Err(seen))
            }
        })
        .await
    }

    async fn until_gone(&self, run: &str) -> Seen {
        let needle = format!("MARKS={}", self.marks_file(run).display());
        self.until(async || {
            let there = processes_with(needle.as_bytes(), true);
            if there.is_empty() { Ok(Ok(())) } else { Ok(Err(format!("{there:?} still execute {run}"))) }
        })
        .await
    }

    async fn until_worker_ends(&mut self, code: Option<i32>) -> Seen {
        let patience = GLANCE * LOOKS;
        let ended = tokio::time::timeout(patience, self.worker.wait()).await;
        let status = ended.map_err(|_| "the worker does not end".to_owned())?.map_err(text)?;
        if code.is_some_and(|code| status.code() != Some(code)) {
            Err(format!("it ended with {status}"))
        } else {
            Ok(())
        }
    }

    async fn kill_host(&mut self) -> Seen {
        let server = self.server.id();
        let folder = self.folder.path().display().to_string();
        self.until(async || {
            let mut there = processes_with(folder.as_bytes(), false);
            there.retain(|pid| Some(*pid) != server);
            if there.is_empty() {
                return Ok(Ok(()));
            }
            let _ = signal("-KILL", &there);
            Ok(Err(format!("{there:?} are not gone")))
        })
        .await?;
        self.worker.wait().await.map(drop).map_err(text)
    }

    async fn server(&mut self, how: ServerStep) -> Seen {
        if how != ServerStep::Start {
            self.server.kill().await.map_err(text)?;
        }
        if how == ServerStep::Replace {
            for file in fs::read_dir(self.folder.path()).map_err(text)?.flatten() {
                if file.file_name().to_string_lossy().starts_with("outlive.db") {
                    fs::remove_file(file.path()).map_err(text)?;
                }
            }
        }
        if how != ServerStep::Kill {
            let (server, _) = serve(self.subject, self.folder.path(), self.client.authority()).await?;
            self.server = server;
        }
        if how == ServerStep::Replace { self.prepare().await } else { Ok(()) }
    }

    async fn rival_registers(&mut self, name: &str) -> Seen {
        let register = Register {
            protocol: outlive_api::PROTOCOL,
            name: name.to_owned(),
            instance: uuid::Uuid::new_v4(),
            takeover: true,
            outbox_key: "the rival's".to_owned(),
            outbox_pending: 0,
            queues: vec!["default".to_owned()],
            kinds: vec!["exec".to_owned()],
            labels: BTreeMap::new(),
            slots: 1,
            liveness: WireLiveness::Poll,
            heartbeat_interval: Some(Millis::mins(1)),
            version: String::new(),
            host: String::new(),
            pid: 0,
            held: Vec::new(),
        };
        self.rival = Some(self.client.register(&register).await.map_err(text)?);
        Ok(())
    }

    async fn rival_claims(&mut self, run: &str) -> Seen {
        if self.rival.is_none() {
            self.rival_registers("rival").await?;
        }
        let Some(rival) = &self.rival else { return Err("no rival".to_owned()) };
        let client = self.client.with_token(&rival.session_token);
        let lease = self
            .until(async || {
                let body = ClaimBody { request_id: uuid::Uuid::new_v4(), max: 1, wait: Some(Millis::secs(1)) };
                let leases = client.claim(rival.worker_id, &body).await.map_err(text)?.leases;
                Ok(leases.into_iter().next().ok_or_else(|| "nothing to claim".to_owned()))
            })
            .await?;
        if lease.run_id != self.id(run)? {
            return Err(format!("the rival got {}", lease.run_id));
        }
        // From now on nothing of an earlier attempt may leave a mark.
        for _ in 0..RIVAL_MARKS {
            let mut file = File::options().append(true).create(true).open(self.marks_file(run)).map_err(text)?;
            std::io::Write::write_all(&mut file, format!("{} rival\n", lease.epoch).as_bytes()).map_err(text)?;
            tokio::time::sleep(GLANCE).await;
        }
        self.leases.insert(run.to_owned(), lease);
        Ok(())
    }

    async fn rival_completes(&self, run: &str) -> Seen {
        let (Some(rival), Some(lease)) = (&self.rival, self.leases.get(run)) else {
            return Err(format!("the rival does not hold {run}"));
        };
        let end = WireItem { stdout: Some("rival\n".into()), ..WireItem::bare(OpName::Complete, Some(lease.lease())) };
        let report = ReportBody { beat: None, items: vec![end], replay: false };
        let answer = self.client.with_token(&rival.session_token).report(rival.worker_id, &report).await;
        match answer.map_err(text)?.results.first() {
            Some(outlive_api::report::WireResult::Ok) => Ok(()),
            other => Err(format!("the rival was answered {other:?}")),
        }
    }

    async fn expect(&self, want: &Expect) -> Seen {
        let id = self.id(&want.run)?;
        let run = self.client.run(id).await.map_err(text)?;
        let mut wrong = Vec::new();
        let mut is = |what: &str, found: String, wanted: Option<String>| {
            if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
                wrong.push(format!("{what} is {found:?}, expected {wanted:?}"));
            }
        };
        let words = |output: &Option<String>| output.clone().unwrap_or_default();
        is("state", run.state.to_string(), want.state.map(|s| s.to_string()));
        is("epoch", run.epoch.to_string(), want.epoch.map(|n| n.to_string()));
        is("losses", run.losses.to_string(), want.losses.map(|n| n.to_string()));
        is("failures", run.failures.to_string(), want.failures.map(|n| n.to_string()));
        is("reason", run.reason.map(|r| r.to_string()).unwrap_or_default(), want.reason.clone());
        is("stdout", words(&run.stdout), want.stdout.clone());
        is("stderr", words(&run.stderr), want.stderr.clone());
        let exit = run.exit.as_ref().and_then(|e| e.code).unwrap_or(-1);
        is("exit", exit.to_string(), want.exit.map(|n| n.to_string()));
        is("marks", format!("{:?}", self.marks(&want.run)), want.marks.as_ref().map(|m| format!("{m:?}")));
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// A mark of an epoch after the first one of a higher epoch is two attempts at once.
    pub(crate) fn no_overlap(&self) -> Seen {
        for run in self.runs.keys() {
            let mut highest = 0;
            for mark in self.marks(run) {
                let epoch: i64 = mark.split(' ').next().and_then(|e| e.parse().ok()).unwrap_or(0);
                if epoch < highest {
                    return Err(format!("{run}: epoch {epoch} was at work after {highest}: {:?}", self.marks(run)));
                }
                highest = epoch;
            }
        }
        Ok(())
    }
}

fn told(run: &Run) -> String {
    format!("epoch {}, losses {}, failures {}, reason {:?}", run.epoch, run.losses, run.failures, run.reason)
}

async fn serve(subject: &Subject, folder: &Path, listen: &str) -> Seen<(Child, SocketAddr)> {
    let log = File::options().create(true).append(true).open(folder.join("server.log")).map_err(text)?;
    let mut child = Command::new(&subject.outlive)
        .args(["server", "--low-disk", "0", "--listen", listen, "--store"])
        .arg(format!("sqlite:{}", folder.join("outlive.db").display()))
        .env_remove("OUTLIVE_SERVER")
        .env("OUTLIVE_CONFIG", "-")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(text)?;
    let mut line = String::new();
    let Some(out) = child.stdout.take() else { return Err("the server has no output".to_owned()) };
    BufReader::new(out).read_line(&mut line).await.map_err(text)?;
    let address = line.trim().strip_prefix("http://").and_then(|a| a.parse().ok());
    Ok((child, address.ok_or_else(|| format!("the server did not start: {line:?}"))?))
}

fn hire(subject: &Subject, folder: &Path, wire: &Wire) -> Seen<Child> {
    let log = File::options().create(true).append(true).open(folder.join("worker.log")).map_err(text)?;
    let (program, args) = subject.worker.split_first().ok_or("no command starts the worker")?;
    let mut command = Command::new(program);
    command.args(args).env_clear();
    for name in ["PATH", "HOME", "USER", "LANG", "TZ", "SHELL"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("OUTLIVE_SERVER", format!("http://{}", wire.address))
        .env("OUTLIVE_WORKER_NAME", NAME)
        .env("OUTLIVE_QUEUES", "default")
        .env("OUTLIVE_SLOTS", "1")
        .env("OUTLIVE_HEARTBEAT_SECONDS", "0.5")
        .env("OUTLIVE_ALLOW_EXEC", "true")
        .env("OUTLIVE_STATE_DIR", folder.join("state"))
        .env("OUTLIVE_CONFIG", "-")
        .env("TMPDIR", folder)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(text)?)
        .stderr(log)
        .kill_on_drop(true);
    command.spawn().map_err(|e| format!("{program} cannot be started: {e}"))
}

fn signal(name: &str, pids: &[u32]) -> Seen {
    let pids = pids.iter().map(ToString::to_string);
    let done = std::process::Command::new("kill").arg(name).args(pids).stderr(Stdio::null()).status().map_err(text)?;
    if done.success() { Ok(()) } else { Err(format!("kill {name}: {done}")) }
}

/// Processes in whose environment this is: as a whole variable, or anywhere.
fn processes_with(needle: &[u8], whole: bool) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut words = environ.split(|b| *b == 0);
        words.any(|word| if whole { word == needle } else { word.windows(needle.len()).any(|w| w == needle) })
    };
    pids.filter(has).collect()
}

fn kill_all(folder: &Path) {
    let there = processes_with(folder.display().to_string().as_bytes(), false);
    if !there.is_empty() {
        let _ = signal("-KILL", &there);
    }
}
