//! JSON that Outlive carries but does not read: inputs, results, checkpoints.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Verbatim JSON text, known to be well formed. Carried and stored as it came, never parsed into a tree.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// Checks and keeps `text`.
    ///
    /// # Errors
    /// If it is not one JSON value.
    pub fn parse(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self)
    }

    /// Any value that serialises.
    ///
    /// # Errors
    /// If the value has no JSON form (a map with keys that are not texts).
    pub fn of<T: Serialize>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// JSON `null`.
    #[must_use]
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.text() == "null"
    }

    /// How deep arrays and objects lie in each other; 0 for a plain value. Readers with a stack have a limit.
    #[must_use]
    pub fn depth(&self) -> usize {
        let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
        for byte in self.text().bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b'[' | b'{' => {
                    depth += 1;
                    deepest = deepest.max(depth);
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        deepest
    }

    /// Reads it as a `T`.
    ///
    /// # Errors
    /// If it is not of that shape.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.text())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Json {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_what_lies_in_each_other_and_not_what_is_text() {
        let depth = |text: &str| Json::parse(text.to_owned()).unwrap().depth();
        assert_eq!(depth("7"), 0);
        assert_eq!(depth(r#"{"a":[1,{"b":[]}],"c":[]}"#), 4);
        assert_eq!(depth(r#"["[[[","\\\"[[[","\\"]"#), 1);
    }
}
