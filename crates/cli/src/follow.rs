//! A run's output as it comes, over restarts of the server and takeovers of the run.
//!
//! What the run writes goes where it was written to: stdout to stdout, everything else to stderr. What happens to the run is
//! told on stderr, one calm line each: an attempt was lost, another goes on. Ctrl-C detaches: the run goes on.

use crate::exit::Failure;
use crate::ids::spoken;
use crate::render::table::{Tone, paint};
use crate::render::{Look, print_bytes, say};
use outlive_api::client::output::{OutputQuery, OutputStream};
use outlive_api::client::{Client, ClientError};
use outlive_api::output::OutputEvent;
use outlive_core::{Millis, Reason, RunId, State};
use std::io::Write as _;
use std::time::Duration;

/// Between attempts to reach a server that went away.
const RETRY: Duration = Duration::from_millis(200);
/// After this long without a sign of the run, say what it waits for.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What to follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Follow<'a> {
    pub(crate) id: RunId,
    pub(crate) what: OutputQuery<'a>,
    /// Tell what happens to the run.
    pub(crate) talk: bool,
}

/// How following ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// The run ended.
    Ended(State),
    /// All that is stored was shown.
    Stored,
    /// Ctrl-C.
    Detached,
    /// The wait was over first.
    TimedOut,
}

/// Shows a run's output until it ends, `limit` is over, or somebody presses Ctrl-C.
pub(crate) async fn follow(
    client: &Client,
    f: Follow<'_>,
    look: &Look,
    limit: Option<Millis>,
) -> Result<Followed, Failure> {
    let over = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit.duration()).await,
            None => std::future::pending().await,
        }
    };
    let mut screen = Screen::new(f, look);
    tokio::select! {
        shown = screen.show(client) => shown,
        _ = tokio::signal::ctrl_c() => Ok(Followed::Detached),
        () = over => Ok(Followed::TimedOut),
    }
}

/// How to come back to a run that was left.
pub(crate) fn say_detached(id: RunId) {
    let short = crate::render::text::short(id);
    say(&format!(
        "\ndetached; {} goes on\n  come back  outlive runs output {short} --follow\n  end it     outlive runs cancel {short}",
        spoken(id)
    ));
}

struct Screen<'a> {
    f: Follow<'a>,
    look: &'a Look,
    after: Option<String>,
    attempts: u32,
    at_line_start: bool,
    waits_for: String,
}

impl<'a> Screen<'a> {
    fn new(f: Follow<'a>, look: &'a Look) -> Self {
        Self { f, look, after: None, attempts: 0, at_line_start: true, waits_for: String::new() }
    }

    async fn show(&mut self, client: &Client) -> Result<Followed, Failure> {
        let mut away = false;
        let mut connected = false;
        loop {
            match client.output_of(self.f.id, self.after.as_deref(), self.f.what).await {
                Ok(stream) => {
                    if away {
                        self.tell("the server is back; going on where it was left");
                    }
                    (away, connected) = (false, true);
                    if let Some(end) = self.read(client, stream).await? {
                        return Ok(end);
                    }
                }
                Err(ClientError::Unreachable { .. }) if connected => {}
                Err(ClientError::Problem(p)) if connected && p.status == 503 => {}
                Err(e) => return Err(e.into()),
            }
            if self.f.what.stored_only {
                return Ok(Followed::Stored);
            }
            if !away {
                self.tell("the server went away; the run does not depend on it. Trying again…");
                away = true;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Shows one stream until the run's end; none: it broke before.
    async fn read(&mut self, client: &Client, mut stream: OutputStream) -> Result<Option<Followed>, Failure> {
        loop {
            let next = tokio::time::timeout(PATIENCE, stream.next()).await;
            if let Some(id) = stream.last_id() {
                self.after = Some(id.to_owned());
            }
            match next {
                Err(_) => self.explain(client).await,
                Ok(Ok(Some(OutputEvent::End(end)))) => return Ok(Some(Followed::Ended(end.state))),
                Ok(Ok(Some(event))) => self.event(&event)?,
                Ok(Ok(None)) if self.f.what.stored_only => return Ok(Some(Followed::Stored)),
                Ok(Ok(None) | Err(ClientError::Unreachable { .. })) => return Ok(None),
                Ok(Err(e)) => return Err(e.into()),
            }
        }
    }

    fn event(&mut self, event: &OutputEvent) -> Result<(), Failure> {
        match event {
            OutputEvent::Chunk(chunk) => {
                let bytes = chunk.bytes();
                self.at_line_start = bytes.last().is_none_or(|&b| b == b'\n');
                if chunk.channel == "stdout" || self.f.what.channel.is_some() {
                    print_bytes(&bytes)?;
                } else {
                    drop(std::io::stderr().lock().write_all(&bytes));
                }
            }
            OutputEvent::Attempt(a) => {
                let from = a.checkpoint.as_ref().map(|c| format!(", from its checkpoint {}", cut(c.text())));
                let from = from.unwrap_or_default();
                self.attempts += 1;
                let (at, before) = (&a.worker_name, a.reason.filter(|_| a.recovered_from.is_some()));
                let line = match before {
                    Some(reason) if reason.is_of_work() => {
                        format!("tries again at {at} (epoch {}){from}; before, {}", a.epoch, reason.text())
                    }
                    Some(Reason::LeaseReleased | Reason::WorkerLeft) => {
                        format!("goes on at {at} (epoch {}){from}", a.epoch)
                    }
                    Some(_) => format!(
                        "goes on at {at} (epoch {}){from}; what came before belongs to the lost attempt",
                        a.epoch
                    ),
                    None if self.attempts > 1 => format!("next attempt, at {at} (epoch {}){from}", a.epoch),
                    None => format!("{} runs at {at}", spoken(self.f.id)),
                };
                self.tell(&line);
                self.waits_for.clear();
            }
            OutputEvent::Lost(lost) => {
                self.tell(&format!("attempt lost: {}. Another worker takes over…", lost.reason.text()));
            }
            OutputEvent::Gap(gap) => {
                self.tell(&format!("output from {} to {} is gone ({})", gap.from, gap.to, gap.why));
            }
            OutputEvent::End(_) => {}
        }
        Ok(())
    }

    /// Says once what a run that shows nothing waits for.
    async fn explain(&mut self, client: &Client) {
        if !self.f.talk || self.f.what.stored_only {
            return;
        }
        let Ok(explanation) = client.explain(self.f.id).await else { return };
        let because: Vec<_> = explanation.because.iter().map(|b| b.detail.as_str()).collect();
        let because = because.join("; ");
        if explanation.state.is_waiting() && !because.is_empty() && because != self.waits_for {
            self.tell(&format!("{} is {}: {because}", spoken(self.f.id), explanation.state));
            self.waits_for = because;
        }
    }

    fn tell(&mut self, line: &str) {
        if self.f.talk {
            let start = if self.at_line_start { "" } else { "\n" };
            say(&format!("{start}{}", paint(self.look, Tone::Quiet, &format!("── {line}"))));
            self.at_line_start = true;
        }
    }
}

fn cut(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST { text.to_owned() } else { text.chars().take(LONGEST).chain(['…']).collect() }
}
