//! A command's stdout as a result.

use crate::agent::Parsed;
use outlive_api::runs::OutputFormat;
use outlive_core::Json;
use outlive_core::limits::sizes;
use serde_json::value::RawValue;

/// Reads what a command that ended well has written. Nothing written is no result.
#[must_use]
pub(super) fn parse(format: OutputFormat, bytes: &[u8]) -> Parsed {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Parsed::Log;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let (line, column) = position(&bytes[..e.valid_up_to()]);
            return invalid(format, &format!("not UTF-8 at line {line} column {column}"));
        }
    };
    let read = match format {
        OutputFormat::Text => return Parsed::Log,
        OutputFormat::Json => Json::parse(text.trim().to_owned()).map_err(|e| e.to_string()),
        OutputFormat::Jsonl => lines(text),
        OutputFormat::Yaml => yaml(text),
    };
    match read {
        Ok(value) if value.text().len() > sizes::RESULT => too_large(format),
        Ok(value) => Parsed::Value(value),
        Err(e) => invalid(format, &e),
    }
}

/// The end of a command that has written too much.
#[must_use]
pub(super) fn too_large(format: OutputFormat) -> Parsed {
    invalid(format, &format!("larger than {} bytes, the limit of a result", sizes::RESULT))
}

fn invalid(format: OutputFormat, detail: &str) -> Parsed {
    let name = match format {
        OutputFormat::Text => "text",
        OutputFormat::Json => "JSON",
        OutputFormat::Yaml => "YAML",
        OutputFormat::Jsonl => "JSON Lines",
    };
    Parsed::Invalid { message: format!("stdout is not {name}: {detail}; it is in the log") }
}

fn lines(text: &str) -> Result<Json, String> {
    let mut values = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let value: &RawValue = serde_json::from_str(line.trim()).map_err(|e| {
            let why = e.to_string();
            let why = why.split(" at line ").next().unwrap_or_default();
            format!("{why} at line {} column {}", number + 1, e.column())
        })?;
        values.push(value);
    }
    Json::of(&values).map_err(|e| e.to_string())
}

fn yaml(text: &str) -> Result<Json, String> {
    let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|e| {
        let place = e.location().map(|l| format!(" at line {} column {}", l.line(), l.column()));
        let why = e.to_string();
        let why = why.lines().next().unwrap_or("it cannot be read").to_owned();
        if why.contains("line ") { why } else { why + &place.unwrap_or_default() }
    })?;
    Json::of(&value).map_err(|e| e.to_string())
}

fn position(before: &[u8]) -> (usize, usize) {
    let line = before.split(|&b| b == b'\n').count();
    let column = before.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(format: OutputFormat, text: &str) -> String {
        match parse(format, text.as_bytes()) {
            Parsed::Value(json) => json.text().to_owned(),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn refused(format: OutputFormat, bytes: &[u8]) -> String {
        match parse(format, bytes) {
            Parsed::Invalid { message } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_format_gives_a_value() {
        assert_eq!(value(OutputFormat::Json, " {\"a\": 1.50}\n"), "{\"a\": 1.50}");
        assert_eq!(value(OutputFormat::Jsonl, "{\"a\":1}\n\n[2]\n"), "[{\"a\":1},[2]]");
        assert_eq!(value(OutputFormat::Yaml, "a: 1\nb:\n  - x\n"), "{\"a\":1,\"b\":[\"x\"]}");
    }

    #[test]
    fn nothing_written_is_no_result() {
        assert_eq!(parse(OutputFormat::Json, b" \n"), Parsed::Log);
        assert_eq!(parse(OutputFormat::Text, b"{}"), Parsed::Log);
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_column() {
        assert!(refused(OutputFormat::Json, b"{\n  \"a\": }").contains("line 2 column 8"));
        assert!(refused(OutputFormat::Jsonl, b"{}\n{\"a\" 1}\n").contains("line 2 column 6"));
        let yaml = refused(OutputFormat::Yaml, b"a: 1\nb: [1\n");
        assert!(yaml.contains("line "), "{yaml}");
        assert!(refused(OutputFormat::Json, b"[1,\n \xff]").contains("not UTF-8 at line 2 column 2"));
        let long = format!("\"{}\"", "x".repeat(sizes::RESULT));
        assert!(refused(OutputFormat::Json, long.as_bytes()).contains("1048576"));
    }
}
