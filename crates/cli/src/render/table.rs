//! Lists as columns, single things as cards.

use super::Look;
use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Row, Table, Width, presets};

/// What a text means, for its colour. The text says it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Good,
    Busy,
    Doubt,
    Bad,
    Quiet,
}

impl Tone {
    const fn color(self) -> Option<Color> {
        match self {
            Self::Plain => None,
            Self::Good => Some(Color::Green),
            Self::Busy => Some(Color::Cyan),
            Self::Doubt => Some(Color::Yellow),
            Self::Bad => Some(Color::Red),
            Self::Quiet => Some(Color::DarkGrey),
        }
    }
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

impl Field {
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Field {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
}

/// Columns under titles. On a terminal the `elastic` columns are cut so that a row stays a line.
pub(crate) fn draw(look: &Look, titles: &[&str], rows: Vec<Vec<Field>>, elastic: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_truncation_indicator("…").force_no_tty();
    if look.color {
        table.enforce_styling();
    }
    table.set_header(titles.iter().map(|t| {
        let cell = Cell::new(t);
        if look.color { cell.fg(Color::DarkGrey) } else { cell }
    }));
    for fields in rows {
        let mut row = Row::new();
        for field in fields {
            let text = if field.text.is_empty() { "-".to_owned() } else { field.text.replace('\n', " ") };
            let cell = Cell::new(text);
            row.add_cell(match field.tone.color().filter(|_| look.color) {
                Some(color) => cell.fg(color),
                None => cell,
            });
        }
        row.max_height(1);
        table.add_row(row);
    }
    // Wide is for whole values; what does not fit is wrapped by the terminal.
    let width = look.width.filter(|_| !look.is_wide());
    if let Some(width) = width {
        table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index + 1 == titles.len() { 0 } else { 2 }));
        let cut = width.is_some() && elastic.contains(&index);
        let least = ColumnConstraint::LowerBoundary(Width::Fixed(8));
        column.set_constraint(if cut { least } else { ColumnConstraint::ContentWidth });
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// One thing: a title per line, those without a value left out.
pub(crate) fn card(look: &Look, fields: &[(&str, Field)]) -> String {
    let shown = || fields.iter().filter(|(_, f)| !f.text.is_empty());
    let width = shown().map(|(title, _)| title.len()).max().unwrap_or(0);
    let lines = shown().map(|(title, field)| {
        let text = field.text.replace('\n', &format!("\n{:width$}  ", ""));
        format!("{}  {}", paint(look, Tone::Quiet, &format!("{title:width$}")), paint(look, field.tone, &text))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A text in its colour, where colours are wanted.
pub(crate) fn paint(look: &Look, tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Good => "32",
        Tone::Busy => "36",
        Tone::Doubt => "33",
        Tone::Bad => "31",
        Tone::Quiet => "90",
    };
    if look.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Format;
    use outlive_core::Wall;

    fn look(width: Option<u16>, color: bool) -> Look {
        Look { format: Format::Table, color, width, now: Wall(0) }
    }

    fn rows() -> Vec<Vec<Field>> {
        vec![
            vec!["a1".into(), Field::toned("running", Tone::Busy), "sh -c 'a very long command that goes on'".into()],
            vec!["b22".into(), "queued".into(), "".into()],
        ]
    }

    #[test]
    fn a_list_has_aligned_columns_without_frames_and_a_dash_for_nothing() {
        let text = draw(&look(None, false), &["RUN", "STATE", "WHAT"], rows(), &[2]);
        let expected = "RUN  STATE    WHAT\na1   running  sh -c 'a very long command that goes on'\nb22  queued   -";
        assert_eq!(text, expected);
    }

    #[test]
    fn on_a_narrow_terminal_the_elastic_column_is_cut_and_a_row_stays_a_line() {
        let text = draw(&look(Some(34), false), &["RUN", "STATE", "WHAT"], rows(), &[2]);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains('…') && text.lines().all(|l| l.chars().count() <= 34), "{text}");
    }

    #[test]
    fn colours_only_when_wanted() {
        assert!(draw(&look(None, true), &["A", "B", "C"], rows(), &[2]).contains('\u{1b}'));
        assert!(!draw(&look(None, false), &["A", "B", "C"], rows(), &[2]).contains('\u{1b}'));
    }

    #[test]
    fn a_card_leaves_out_what_has_no_value() {
        let text = card(&look(None, false), &[("state", "held".into()), ("pin", "".into()), ("id", "x".into())]);
        assert_eq!(text, "state  held\nid     x");
    }
}
