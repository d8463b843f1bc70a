//! The live table of the demo: runs as rows, workers as columns. Without a terminal: a plain line for each change.

use super::stage::{line_of, worker_of};
use crate::render::table::{Tone, paint};
use crate::render::{Look, say, text};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use outlive_api::runs::Run;
use outlive_core::{Epoch, RunId, State};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::time::Duration;

/// Between two pictures.
pub(super) const FRAME: Duration = Duration::from_millis(80);

/// What a run was like when it was shown last: state, worker, losses.
type Seen = (State, Option<String>, u32);

pub(super) struct Screen {
    look: Look,
    live: bool,
    all: MultiProgress,
    head: ProgressBar,
    rows: Vec<ProgressBar>,
    workers: Vec<String>,
    struck: BTreeSet<String>,
    seen: BTreeMap<RunId, Seen>,
}

impl Screen {
    pub(super) fn new(look: &Look, ids: &[RunId], workers: &[String], lines: u32) -> Self {
        let live = std::io::stderr().is_terminal();
        let color = live && !crate::config::no_color();
        let target = if live { ProgressDrawTarget::stderr_with_hz(20) } else { ProgressDrawTarget::hidden() };
        let all = MultiProgress::with_draw_target(target);
        let head = all.add(ProgressBar::new(0));
        if let Ok(style) = ProgressStyle::with_template("{prefix}") {
            head.set_style(style);
        }
        let row = |id: &RunId| {
            let bar = all.add(ProgressBar::new(u64::from(lines)));
            if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:24} {pos:>2}/{len}  {msg}") {
                bar.set_style(style.progress_chars("█▌░"));
            }
            bar.set_prefix(text::short(*id));
            bar
        };
        let rows = ids.iter().map(row).collect();
        let look = Look { color, ..*look };
        Self { look, live, all, head, rows, workers: workers.to_vec(), struck: BTreeSet::new(), seen: BTreeMap::new() }
    }

    /// These workers are shown as gone.
    pub(super) fn strike(&mut self, workers: &[String]) {
        self.struck.extend(workers.iter().cloned());
    }

    /// They are back.
    pub(super) fn revive(&mut self, workers: &[String]) {
        self.struck.retain(|name| !workers.contains(name));
    }

    /// A line above the table.
    pub(super) fn tell(&self, line: &str) {
        if self.live {
            drop(self.all.println(paint(&self.look, Tone::Doubt, &format!("── {line}"))));
        } else {
            say(line);
        }
    }

    pub(super) fn show(&mut self, runs: &[Run]) {
        if self.live {
            self.draw(runs);
        }
        self.note_changes(runs);
    }

    fn draw(&self, runs: &[Run]) {
        let title = |name: &String| {
            let text = format!("{name:^6}");
            if self.struck.contains(name) { paint(&self.look, Tone::Bad, &text) } else { text }
        };
        let titles: Vec<_> = self.workers.iter().map(title).collect();
        self.head.set_prefix(format!("RUN      {}", titles.join(" ")));
        self.head.tick();
        for (run, bar) in runs.iter().zip(&self.rows) {
            let cells = self.workers.iter().map(|name| {
                if worker_of(run) == Some(name.as_str()) {
                    paint(&self.look, Tone::Busy, &format!("{:^6}", "●"))
                } else {
                    paint(&self.look, Tone::Quiet, &format!("{:^6}", "·"))
                }
            });
            bar.set_prefix(format!("{} {}", text::short(run.id), cells.collect::<Vec<_>>().join(" ")));
            let state = text::state(run.state);
            let again = if run.epoch > Epoch(1) { paint(&self.look, Tone::Doubt, "  goes on") } else { String::new() };
            bar.set_message(format!(
                "{}{}",
                paint(&self.look, state.tone, &state.text),
                if run.state == State::Queued { String::new() } else { again }
            ));
            bar.set_position(u64::from(line_of(run)));
        }
    }

    /// Without a terminal: what changed for each run that was lost, and how many are done.
    fn note_changes(&mut self, runs: &[Run]) {
        for run in runs {
            let now = (run.state, worker_of(run).map(str::to_owned), run.losses);
            let before = self.seen.insert(run.id, now.clone());
            if self.live || before.as_ref() == Some(&now) {
                continue;
            }
            let name = text::short(run.id);
            let (was, losses) = before.map_or((None, 0), |(_, worker, losses)| (worker, losses));
            match (&now, was) {
                ((state, ..), _) if state.is_terminal() => say(&format!("{name} {state}")),
                ((State::Queued, ..), Some(was)) => {
                    let how = if run.losses > losses { "lost on" } else { "handed back by" };
                    say(&format!("{name} was {how} {was} at line {}, and is queued again", line_of(run)));
                }
                ((State::Running, Some(worker), _), _) if run.epoch > Epoch(1) => {
                    say(&format!("{name} goes on at {worker} after line {}", line_of(run)));
                }
                ((State::Running, Some(worker), _), _) => say(&format!("{name} runs at {worker}")),
                _ => {}
            }
        }
    }

    /// Leaves the last picture standing.
    pub(super) fn close(&self) {
        for bar in self.rows.iter().chain([&self.head]) {
            bar.abandon();
        }
        if self.live {
            say("");
        }
    }
}
