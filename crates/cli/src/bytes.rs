//! Sizes on the command line.

/// `512MiB`, `2GiB`, `64KiB`, or a number of bytes.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        other => return Err(format!("\"{other}\" is not a unit; one looks like 512MiB")),
    };
    let number: u64 = digits.trim().parse().map_err(|_| "not a size; one looks like 512MiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "more than there can be".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units_or_none() {
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("4096"), Ok(4_096));
        assert_eq!(parse("512MiB"), Ok(512 << 20));
        assert_eq!(parse("2 GiB"), Ok(2 << 30));
        for bad in ["", "MiB", "1MB", "-1", "99999999TiB"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
