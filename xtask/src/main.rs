//! Set-up, tests and lints.
fn main() {}
