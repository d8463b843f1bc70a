//! Small texts: ages, times, short ids, states.

use super::Look;
use super::table::{Field, Tone};
use outlive_core::{Millis, RunId, State, Wall};

/// Digits of a run's id that lists show: its end, which is random (the beginning is the time of its creation).
pub(crate) const SHORT: usize = 8;

/// The last eight digits of the id.
pub(crate) fn short(id: RunId) -> String {
    let text = id.to_string();
    text[text.len() - SHORT..].to_owned()
}

/// Short or whole, as the format wants it.
pub(crate) fn run_id(look: &Look, id: RunId) -> String {
    if look.is_wide() { id.to_string() } else { short(id) }
}

/// A duration in at most two units: `870ms`, `4.2s`, `3m 20s`, `2h 5m`, `3d 4h`.
pub(crate) fn span(d: Millis) -> String {
    let ms = d.0;
    let two = |a: u64, unit: &str, b: u64, small: &str| {
        if b == 0 { format!("{a}{unit}") } else { format!("{a}{unit} {b}{small}") }
    };
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..10_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        10_000..60_000 => format!("{}s", ms / 1_000),
        60_000..3_600_000 => two(ms / 60_000, "m", ms / 1_000 % 60, "s"),
        3_600_000..86_400_000 => two(ms / 3_600_000, "h", ms / 60_000 % 60, "m"),
        _ => two(ms / 86_400_000, "d", ms / 3_600_000 % 24, "h"),
    }
}

/// How long ago.
pub(crate) fn age(look: &Look, at: Wall) -> String {
    span(look.now.since(at))
}

/// Milliseconds of a measurement, or a dash.
pub(crate) fn ms(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| span(Millis(v)))
}

/// `k=v,k=v`
pub(crate) fn pairs(map: &std::collections::BTreeMap<String, String>) -> String {
    map.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
}

/// `1 run`, `2 runs`
pub(crate) fn count(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// A command line as one would type it.
pub(crate) fn shell(command: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quote = |word: &String| {
        let is_plain = !word.is_empty() && word.chars().all(plain);
        if is_plain { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    command.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// A state in its colour.
pub(crate) fn state(state: State) -> Field {
    let tone = match state {
        State::Succeeded => Tone::Good,
        State::Claimed | State::Running => Tone::Busy,
        State::Cancelling | State::Held => Tone::Doubt,
        State::Failed | State::TimedOut | State::Lost | State::Expired => Tone::Bad,
        State::Cancelled | State::Scheduled => Tone::Quiet,
        State::Queued => Tone::Plain,
    };
    Field::toned(state.as_str(), tone)
}

/// A worker's status in its colour.
pub(crate) fn status(status: &str) -> Field {
    let tone = match status {
        "online" => Tone::Good,
        "suspect" | "draining" => Tone::Doubt,
        "offline" => Tone::Bad,
        _ => Tone::Quiet,
    };
    Field::toned(status, tone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_at_most_two_units() {
        let cases = [
            (0, "0ms"),
            (870, "870ms"),
            (4_260, "4.2s"),
            (12_900, "12s"),
            (60_000, "1m"),
            (200_000, "3m 20s"),
            (7_500_000, "2h 5m"),
            (273_600_000, "3d 4h"),
        ];
        for (ms, text) in cases {
            assert_eq!(span(Millis(ms)), text);
        }
    }

    #[test]
    fn a_short_id_is_the_random_end() {
        let id: RunId = "01934b6e-1f00-7abc-8def-0123456789ab".parse().unwrap();
        assert_eq!(short(id), "456789ab");
    }

    #[test]
    fn a_command_is_quoted_only_where_needed() {
        let words = ["sh", "-c", "echo it's", ""].map(str::to_owned);
        assert_eq!(shell(&words), r"sh -c 'echo it'\''s' ''");
    }
}
