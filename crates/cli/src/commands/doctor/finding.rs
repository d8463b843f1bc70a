//! What was found, and what to do.

use crate::render::table::{Field, Tone, paint};
use crate::render::{Look, Row};
use serde::Serialize;

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Good.
    Ok,
    /// It works, and could be better.
    Warning,
    /// It does not work, or will not for long.
    Problem,
}

/// One thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) found: String,
    /// What to do; none if nothing.
    pub(crate) advice: Option<String>,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    pub(crate) fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, found: found.into(), advice: Some(advice.into()) }
    }

    pub(crate) fn problem(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Problem, ..Self::warning(check, found, advice) }
    }

    fn mark(&self) -> (&'static str, Tone) {
        match self.verdict {
            Verdict::Ok => ("ok", Tone::Good),
            Verdict::Warning => ("warning", Tone::Doubt),
            Verdict::Problem => ("PROBLEM", Tone::Bad),
        }
    }

    /// For people: nothing is cut off.
    pub(crate) fn lines(&self, look: &Look) -> String {
        let (mark, tone) = self.mark();
        let advice = self.advice.as_ref().map_or_else(String::new, |a| format!("\n{:27}→ {a}", ""));
        format!("{} {:17} {}{advice}", paint(look, tone, &format!("{mark:8}")), self.check, self.found)
    }
}

impl Row for Finding {
    const COLUMNS: (&'static [&'static str], usize) = (&["CHECK", "VERDICT", "FOUND", "WHAT TO DO"], 4);

    fn cells(&self, _: &Look) -> Vec<Field> {
        let (mark, tone) = self.mark();
        let advice = self.advice.clone().unwrap_or_default();
        vec![self.check.into(), Field::toned(mark, tone), self.found.clone().into(), advice.into()]
    }

    fn id(&self) -> String {
        self.check.to_owned()
    }
}
