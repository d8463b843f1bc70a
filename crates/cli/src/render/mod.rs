//! What people and scripts see: data on stdout in the format that was asked for, talk on stderr.
//!
//! | file | what |
//! |---|---|
//! | [`table`] | lists and cards |
//! | [`rows`] | the columns of each thing |
//! | [`text`] | ages, times, short ids, states |

pub(crate) mod rows;
pub(crate) mod table;
pub(crate) mod text;

use crate::exit::Failure;
use clap::ValueEnum;
use outlive_api::clock::SystemClock;
use outlive_core::Wall;
use outlive_core::clock::Clock as _;
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// More columns, whole ids
    Wide,
    /// One JSON document
    Json,
    /// One JSON value per line
    Jsonl,
    /// One YAML document
    Yaml,
    /// Only the ids, one per line
    Id,
}

/// How to draw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) format: Format,
    pub(crate) color: bool,
    /// Columns of the terminal; none if stdout is not one: nothing is cut off then.
    pub(crate) width: Option<u16>,
    pub(crate) now: Wall,
}

impl Look {
    pub(crate) fn of(format: Format) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
        let width = size.map(|s| s.ws_col).filter(|&w| terminal && w > 0);
        Self { format, color: terminal && !crate::config::no_color(), width, now: SystemClock.wall() }
    }

    pub(crate) fn is_wide(&self) -> bool {
        self.format == Format::Wide
    }

    /// Whether a person reads stdout as it comes.
    pub(crate) fn is_live(&self) -> bool {
        self.width.is_some() && self.format == Format::Table
    }
}

/// A thing that can stand in a list.
pub(crate) trait Row: Serialize {
    /// Column titles; those from the index on only when wide.
    const COLUMNS: (&'static [&'static str], usize);
    /// Where the long texts stand that may be cut off.
    const ELASTIC: &'static [usize] = &[];
    fn cells(&self, look: &Look) -> Vec<table::Field>;
    fn id(&self) -> String;
}

/// Writes a list.
pub(crate) fn list<T: Row>(look: &Look, rows: &[T], empty: &str) -> Result<(), Failure> {
    match look.format {
        Format::Table | Format::Wide if rows.is_empty() => {
            say(empty);
            Ok(())
        }
        Format::Table | Format::Wide => {
            let (columns, narrow) = T::COLUMNS;
            let shown = if look.is_wide() { columns.len() } else { narrow };
            let cells = rows.iter().map(|row| {
                let mut cells = row.cells(look);
                cells.truncate(shown);
                cells
            });
            print(&table::draw(look, &columns[..shown], cells.collect(), T::ELASTIC))
        }
        Format::Jsonl => rows.iter().try_for_each(|row| print(&serde_json::to_string(row)?)),
        Format::Id => rows.iter().try_for_each(|row| print(&row.id())),
        Format::Json | Format::Yaml => document(look.format, &rows),
    }
}

/// Writes one thing; `card` is its form for people.
pub(crate) fn one<T: Serialize>(
    look: &Look,
    value: &T,
    id: &str,
    card: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match look.format {
        Format::Table | Format::Wide => print(&card()),
        Format::Id => print(id),
        format => document(format, value),
    }
}

fn document<T: Serialize>(format: Format, value: &T) -> Result<(), Failure> {
    match format {
        Format::Yaml => {
            let tree = serde_json::to_value(value)?;
            let yaml = serde_saphyr::to_string(&tree).map_err(|e| Failure::failed(format!("no YAML form: {e}")))?;
            print(yaml.trim_end())
        }
        Format::Jsonl => print(&serde_json::to_string(value)?),
        _ => print(&serde_json::to_string_pretty(value)?),
    }
}

/// Data: to stdout, with a line end. A reader that went away is not an error to speak of.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Bytes as they are, to stdout.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Talk: to stderr. Nobody listening is no reason to stop.
pub(crate) fn say(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
