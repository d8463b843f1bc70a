//! Kind `exec`: a command in processes of its own.
//!
//! ```text
//!   folder, channel ─► fork (group, cgroup, PDEATHSIG) ─► stdin ║ stdout ║ stderr ║ channel ║ orders
//!                                                              main process ends
//!                      read what is there ─► kill what is left of the lease ─► reap ─► parse ─► Ended
//! ```
//!
//! The end of the main process ends the attempt, whoever holds its pipes. It is reaped last, so that its number and its
//! group's stay its own while leftovers are killed.

use super::capture::{Sink, pump};
use super::exit::is_over_memory;
use super::folder::Folder;
use super::process::{Process, Spawner};
use super::{Event, Job, Sender, env, parse};
use crate::agent::{ChildEvent, End, Parsed, Stop};
use crate::channel::Channel;
use crate::reach::limits::{Confinement, OutOfMemory};
use crate::reach::{Domain, LEASE_VARIABLE};
use crate::sys;
use outlive_api::runs::{ExecInput, OutputFormat};
use outlive_api::session::Lease;
use outlive_core::LeaseRef;
use outlive_core::report::ExitReport;
use outlive_core::resources::Resources;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};

/// A child that is killed while it is being started may not be in its group yet: the kill is repeated.
const KILL_AGAIN: Duration = Duration::from_millis(2);

/// What all commands of an agent share.
#[derive(Debug)]
pub struct ExecContext {
    /// The agent's name, for messages.
    pub worker: String,
    /// Where attempts have their folders.
    pub attempts: PathBuf,
    /// What they are reached by.
    pub domain: Domain,
    /// Who starts them.
    pub spawner: Spawner,
    /// The most that one attempt gets.
    pub limits: Resources,
    environment: BTreeMap<OsString, OsString>,
    next_folder: AtomicU64,
}

impl ExecContext {
    /// With the allowed part of this process's environment.
    #[must_use]
    pub fn new(worker: String, attempts: PathBuf, domain: Domain, limits: Resources, spawner: Spawner) -> Self {
        let (environment, next_folder) = (env::inherited(), AtomicU64::new(0));
        Self { worker, attempts, domain, spawner, limits, environment, next_folder }
    }
}

/// The thread that runs commands.
#[derive(Clone, Debug)]
pub struct Executor(mpsc::Sender<Job>);

impl Executor {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the machine has no thread to give.
    pub fn start(context: ExecContext, slots: u32, events: mpsc::Sender<Event>) -> io::Result<Self> {
        // An attempt may wait here while the one before it in its slot is still being cleaned up.
        let (jobs, mut waiting) = mpsc::channel::<Job>(2 * slots as usize);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let context = Arc::new(context);
        std::thread::Builder::new().name("processes".into()).spawn(move || {
            runtime.block_on(async {
                while let Some(job) = waiting.recv().await {
                    tokio::spawn(attempt(job, Arc::clone(&context), events.clone()));
                }
            });
        })?;
        Ok(Self(jobs))
    }

    /// Takes a job, unless the thread is gone or drowned.
    #[must_use]
    pub fn run(&self, job: Job) -> bool {
        self.0.try_send(job).is_ok()
    }
}

/// One attempt, from its lease to `Ended`.
async fn attempt(job: Job, context: Arc<ExecContext>, events: mpsc::Sender<Event>) {
    let lease = job.lease.lease();
    let events = Sender { events, window: Arc::clone(&job.window) };
    let number = context.next_folder.fetch_add(1, Ordering::Relaxed);
    let (end, folder) = match Folder::make(&context.attempts, number, &job.lease) {
        Ok(folder) => (run(job, &context, &folder, &events).await, Some(folder)),
        Err(e) => (no_place(&format!("the attempt's folder in {}", context.attempts.display()), &e, &context), None),
    };
    events.send(lease, ChildEvent::Ended(end)).await;
    // The folder may hold anything, and its slot is free already.
    tokio::task::spawn_blocking(move || drop(folder));
}

async fn run(mut job: Job, context: &Arc<ExecContext>, folder: &Folder, events: &Sender) -> End {
    let lease = job.lease.lease();
    let input: ExecInput = match job.lease.input.read() {
        Ok(input) => input,
        Err(e) => return End::Rejected { message: format!("the input is not one of exec: {e}") },
    };
    let limits = match input.limits.unwrap_or_default().read() {
        Ok(limits) => limits.and(context.limits),
        Err(field) => {
            let message = format!("limits.{field} must be at least 1");
            return End::Rejected { message };
        }
    };
    let listener = match folder.listen() {
        Ok(listener) => listener,
        Err(e) => return no_place(&format!("the attempt's socket {}", folder.socket().display()), &e, context),
    };
    let work = input.cwd.as_ref().map_or_else(|| folder.work(), PathBuf::from);
    if job.stop.borrow().is_some() {
        // Asked to end before it began.
        return End::Vanished;
    }
    let confined = match context.domain.confine(lease, limits) {
        Ok(confined) => confined,
        Err(e) => {
            context.domain.remove(lease, limits);
            return host_failed("the attempt's control group cannot be made", &e);
        }
    };
    let command = command(&input, &job.lease, context, folder, &work, confined);
    let spawned = spawn(command, context, lease, &mut job.stop).await;
    let end = match spawned {
        Ok(child) => {
            let channel = Channel::new(lease, listener, events.clone());
            let attached = Attached::to(child);
            match attached {
                Ok(attached) => attached.run(&mut job, input, context, channel, events).await,
                Err(e) => {
                    kill_leftovers(context, lease, None).await;
                    host_failed("the process cannot be watched", &e)
                }
            }
        }
        Err(e) => refused(&e, &input, &work, &context.worker),
    };
    let end =
        if limits.memory.is_some() { within(limits, end, context.domain.out_of_memory(lease), lease) } else { end };
    context.domain.remove(lease, limits);
    end
}

/// An end in the light of what the kernel counted.
fn within(limits: Resources, end: End, memory: OutOfMemory, lease: LeaseRef) -> End {
    match (end, limits.memory) {
        (End::Exit { exit, .. }, Some(limit)) if is_over_memory(&exit, memory) => {
            End::OverMemory { exit: ExitReport { oom_killed: true, ..exit }, limit }
        }
        (end, _) => {
            if memory == OutOfMemory::Above {
                tracing::warn!(run = %lease.run_id, "within its own limit, killed by the kernel: the host is out of memory");
            }
            end
        }
    }
}

/// Starts it. In a group that stands still already, the child stands still before it runs anything, and keeps the spawner
/// waiting until it is thawed, or killed as is done here.
async fn spawn(
    command: Command,
    context: &ExecContext,
    lease: LeaseRef,
    stop: &mut watch::Receiver<Option<Stop>>,
) -> io::Result<Child> {
    let spawned = context.spawner.spawn(command);
    tokio::pin!(spawned);
    tokio::select! {
        spawned = &mut spawned => return spawned,
        _ = stop.wait_for(|&wanted| wanted == Some(Stop::Kill)) => {}
    }
    loop {
        let _ = context.domain.group(lease).map(|group| group.kill());
        if let Ok(spawned) = tokio::time::timeout(KILL_AGAIN, &mut spawned).await {
            return spawned;
        }
    }
}

fn command(
    input: &ExecInput,
    lease: &Lease,
    context: &ExecContext,
    folder: &Folder,
    work: &Path,
    confined: Confinement,
) -> Command {
    let mut command = Command::new(input.command.first().map_or("", String::as_str));
    command.args(input.command.iter().skip(1)).current_dir(work);
    command.env_clear().envs(&context.environment).envs(&input.env);
    command
        .env("OUTLIVE_RUN_ID", lease.run_id.to_string())
        .env("OUTLIVE_EPOCH", lease.epoch.to_string())
        .env("OUTLIVE_ATTEMPT", lease.attempt.to_string())
        .env("OUTLIVE_RECOVERED", if lease.recovered { "true" } else { "false" })
        .env("OUTLIVE_SOCKET", folder.socket())
        .env("OUTLIVE_CHECKPOINT_FILE", folder.checkpoint())
        .env("OUTLIVE_RESUME_FILE", folder.resume())
        .env(LEASE_VARIABLE, context.domain.id(lease.lease()));
    if let Some(trace) = &lease.traceparent {
        command.env("TRACEPARENT", trace);
    }
    let stdin = if input.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    sys::contain(&mut command, confined);
    command
}

/// A process with its pipes.
struct Attached {
    process: Process,
    stdin: Option<pipe::Sender>,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

impl Attached {
    fn to(mut child: Child) -> io::Result<Self> {
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let process = Process::of(&child)?;
        let stdin = child.stdin.take().map(|p| pipe::Sender::from_owned_fd(p.into())).transpose()?;
        let stdout = pipe::Receiver::from_owned_fd(child.stdout.take().ok_or_else(missing)?.into())?;
        let stderr = pipe::Receiver::from_owned_fd(child.stderr.take().ok_or_else(missing)?.into())?;
        Ok(Self { process, stdin, stdout, stderr })
    }

    async fn run(
        self,
        job: &mut Job,
        input: ExecInput,
        context: &Arc<ExecContext>,
        channel: Channel,
        events: &Sender,
    ) -> End {
        let lease = job.lease.lease();
        let Self { process, stdin, stdout, stderr } = self;
        let group = process.group();
        events.send(lease, ChildEvent::Started(Some(group))).await;
        let (ends, ended) = watch::channel(false);
        let structured = input.output_format != OutputFormat::Text;
        let sink = |channel, kept| Sink {
            lease,
            channel,
            events: events.clone(),
            ended: ended.clone(),
            kept,
            overflowed: false,
        };
        let mut out = sink("stdout", structured.then(Vec::new));
        let mut err = sink("stderr", None);
        let (_, unused) = mpsc::channel(1);
        let down = std::mem::replace(&mut job.down, unused);
        {
            let work = async {
                process.ended().await;
                let _ = ends.send(true);
            };
            let work = async { tokio::join!(work, pump(&stdout, &mut out), pump(&stderr, &mut err)) };
            let aside = async {
                tokio::join!(
                    feed(stdin, input.stdin.unwrap_or_default()),
                    channel.serve(down),
                    obey(&mut job.stop, &process, context, lease),
                )
            };
            tokio::select! {
                _ = work => {}
                _ = aside => {}
            }
        }
        kill_leftovers(context, lease, Some(group)).await;
        let exit = match process.reap().await {
            Ok(exit) => exit,
            Err(e) => return host_failed("the process cannot be reaped", &e),
        };
        let output = if exit.code == Some(0) { result(&mut out, input.output_format) } else { Parsed::Log };
        let is_result = matches!(output, Parsed::Value(_));
        if !is_result {
            out.give_up_result().await;
        }
        let lenient = !input.strict_output && matches!(output, Parsed::Invalid { .. });
        End::Exit { exit, output: if lenient { Parsed::Log } else { output } }
    }
}

fn result(out: &mut Sink, format: OutputFormat) -> Parsed {
    match &out.kept {
        _ if out.overflowed => parse::too_large(format),
        Some(kept) => parse::parse(format, kept),
        None => Parsed::Log,
    }
}

/// Writes stdin and closes it. A command need not read it.
async fn feed(stdin: Option<pipe::Sender>, text: String) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(text.as_bytes()).await;
    }
}

/// Carries out orders, for as long as the attempt lasts.
async fn obey(
    stop: &mut watch::Receiver<Option<Stop>>,
    process: &Process,
    context: &ExecContext,
    lease: LeaseRef,
) -> std::convert::Infallible {
    let mut done = None;
    loop {
        let wanted = *stop.borrow_and_update();
        if wanted > done {
            done = wanted;
            match wanted {
                Some(Stop::Term) => process.signal_group(Signal::TERM),
                Some(Stop::Kill) => {
                    // The rest of the lease is killed, until nothing is left, when this has ended its main process.
                    process.kill();
                    process.signal_group(Signal::KILL);
                    let _ = context.domain.group(lease).map(|group| group.kill());
                }
                None => {}
            }
        }
        if stop.changed().await.is_err() {
            // The agent is going, and everything with it: nobody is left to give orders.
            std::future::pending::<()>().await;
        }
    }
}

/// Kills whatever is left of a lease, and waits until nothing is.
async fn kill_leftovers(context: &Arc<ExecContext>, lease: LeaseRef, group: Option<i32>) {
    if context.domain.group(lease).is_some_and(|g| !g.is_populated()) {
        return;
    }
    let context = Arc::clone(context);
    let killing = move || context.domain.kill(&BTreeMap::from([(lease, group)]));
    let _ = tokio::task::spawn_blocking(killing).await;
}

fn host_failed(what: &str, e: &io::Error) -> End {
    End::HostFailed { message: format!("{what}: {e}") }
}

/// Something of the attempt has no place on this host: the host's fault, whatever it is, and none of the work's attempts.
fn no_place(what: &str, e: &io::Error, context: &ExecContext) -> End {
    End::HostFailed { message: format!("worker {} cannot begin: {what} cannot be made: {e}", context.worker) }
}

/// A command that could not be started: either it would not start anywhere like this, or this host cannot start any now.
fn refused(e: &io::Error, input: &ExecInput, work: &Path, worker: &str) -> End {
    use io::ErrorKind::{ArgumentListTooLong, InvalidInput, NotADirectory, NotFound, PermissionDenied};
    let command = input.command.first().map_or("", String::as_str);
    let (place, work_is_there) = (work.display(), work.is_dir());
    let is_format = e.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error());
    let message = match e.kind() {
        _ if input.command.is_empty() => "the command is empty; name a program".to_owned(),
        _ if !work_is_there => {
            format!("the directory {place} is not there on worker {worker}; \"{command}\" was to run in it")
        }
        NotFound => format!(
            "the command \"{command}\" was not found on worker {worker} (in directory {place}); is it in its PATH?"
        ),
        PermissionDenied => {
            format!("worker {worker} may not execute \"{command}\" in directory {place}: {e}; is it executable?")
        }
        NotADirectory | InvalidInput | ArgumentListTooLong => {
            format!("the command \"{command}\" cannot be started on worker {worker} in directory {place}: {e}")
        }
        _ if is_format => {
            format!("\"{command}\" is not a program for worker {worker}; does a script lack its first line?")
        }
        _ => return host_failed(&format!("\"{command}\" cannot be started on worker {worker}"), e),
    };
    End::Rejected { message }
}
