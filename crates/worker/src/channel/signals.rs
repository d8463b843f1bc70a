//! Signals that wait to be taken, and who waits for one.

use super::{BACKLOG, text};
use outlive_core::Json;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Both sides: at most one of them has anything of a name.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Oldest first. When there is no more room the oldest goes.
    kept: VecDeque<(String, Json)>,
    waiting: Vec<Asked>,
}

/// Somebody wants the next signal.
#[derive(Debug)]
pub(super) struct Asked {
    connection: u64,
    reference: Option<u64>,
    /// None: any.
    name: Option<String>,
}

impl Asked {
    /// A line of this kind; none if it is another.
    pub(super) fn parse(connection: u64, line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Line {
            op: String,
            r#ref: Option<u64>,
            name: Option<String>,
        }
        let line: Line = serde_json::from_str(line).ok()?;
        (line.op == "signal").then_some(Self { connection, reference: line.r#ref, name: line.name })
    }

    fn wants(&self, name: &str) -> bool {
        self.name.as_deref().is_none_or(|wanted| wanted == name)
    }

    fn answer(&self, name: &str, data: &Json) -> (u64, String) {
        #[derive(Serialize)]
        struct Answer<'a> {
            r#ref: Option<u64>,
            status: &'static str,
            name: &'a str,
            data: &'a Json,
        }
        (self.connection, text(&Answer { r#ref: self.reference, status: "ok", name, data }))
    }
}

impl Signals {
    /// The answer, if there is a signal for it; else it waits.
    pub(super) fn ask(&mut self, asked: Asked) -> Result<Option<(u64, String)>, String> {
        if let Some(at) = self.kept.iter().position(|(name, _)| asked.wants(name)) {
            return Ok(self.kept.remove(at).map(|(name, data)| asked.answer(&name, &data)));
        }
        if self.waiting.len() >= BACKLOG {
            return Err(format!("{BACKLOG} wait for a signal already"));
        }
        self.waiting.push(asked);
        Ok(None)
    }

    /// A signal came: who waited longest for it takes it, else it is kept.
    pub(super) fn came(&mut self, name: &str, data: &Json) -> Option<(u64, String)> {
        if let Some(at) = self.waiting.iter().position(|asked| asked.wants(name)) {
            return Some(self.waiting.remove(at).answer(name, data));
        }
        if self.kept.len() >= BACKLOG {
            self.kept.pop_front();
        }
        self.kept.push_back((name.to_owned(), data.clone()));
        None
    }

    /// A connection has gone.
    pub(super) fn forget(&mut self, connection: u64) {
        self.waiting.retain(|asked| asked.connection != connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(signals: &mut Signals, connection: u64, line: &str) -> Option<String> {
        signals.ask(Asked::parse(connection, line).unwrap()).unwrap().map(|(_, line)| line)
    }

    #[test]
    fn a_signal_is_taken_once_by_who_asks_for_its_name() {
        let mut signals = Signals::default();
        let data = Json::parse("[1]".into()).unwrap();
        assert_eq!(signals.came("a", &data), None);
        assert_eq!(signals.came("b", &data), None);
        let taken = ask(&mut signals, 1, r#"{"ref":7,"op":"signal","name":"b"}"#).unwrap();
        assert_eq!(taken, "{\"ref\":7,\"status\":\"ok\",\"name\":\"b\",\"data\":[1]}\n");
        assert!(ask(&mut signals, 1, r#"{"ref":8,"op":"signal"}"#).unwrap().contains("\"a\""));
        assert_eq!(ask(&mut signals, 2, r#"{"ref":9,"op":"signal","name":"b"}"#), None);
        assert_eq!(signals.came("a", &data), None);
        assert_eq!(signals.came("b", &data).unwrap().0, 2);
    }

    #[test]
    fn who_has_gone_takes_nothing_and_both_sides_are_bounded() {
        let mut signals = Signals::default();
        assert_eq!(ask(&mut signals, 1, r#"{"op":"signal"}"#), None);
        signals.forget(1);
        for n in 0..=BACKLOG {
            assert_eq!(signals.came("s", &Json::of(&n).unwrap()), None);
        }
        assert!(ask(&mut signals, 2, r#"{"op":"signal"}"#).unwrap().contains("\"data\":1}"), "the oldest went");
        assert!(Asked::parse(1, r#"{"op":"output","text":"signal"}"#).is_none());
    }
}
