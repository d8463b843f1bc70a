//! Every way in which a command can end, and the code for each: the one place that maps errors to exit codes.

use outlive_api::client::ClientError;
use outlive_core::State;
use std::fmt;
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It did what it was asked.
    Ok = 0,
    /// It did not.
    Failed = 1,
    /// It was asked wrongly.
    Usage = 2,
    /// What it should act on is not there.
    NotFound = 3,
    /// The server refuses it to this caller.
    NotAllowed = 4,
    /// The thing is not in a state for it.
    Conflict = 5,
    /// No server answered.
    Unreachable = 6,
    /// The wait was over first; the run goes on.
    WaitTimedOut = 7,
    /// The run failed.
    RunFailed = 10,
    /// The run was cancelled.
    RunCancelled = 11,
    /// The run was lost, timed out or expired.
    RunLost = 12,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The exit code that tells how a run ended; a run that has not ended is no failure.
pub(crate) const fn of_state(state: State) -> Exit {
    match state {
        State::Failed => Exit::RunFailed,
        State::Cancelled => Exit::RunCancelled,
        State::Lost | State::TimedOut | State::Expired => Exit::RunLost,
        _ => Exit::Ok,
    }
}

/// Why a command did not do what it was asked: what happened, and what to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// The reader of our output went away (`| head`): no reason to say anything.
    pub(crate) silent: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, silent: false }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Says what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        let gone = e.kind() == std::io::ErrorKind::BrokenPipe;
        Self { silent: gone, ..Self::new(if gone { Exit::Ok } else { Exit::Failed }, e.to_string()) }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(e: serde_json::Error) -> Self {
        Self::failed(format!("not JSON of the expected shape: {e}"))
    }
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Self {
        match e {
            ClientError::Unreachable { address, detail } => {
                Self::new(Exit::Unreachable, format!("no server answers at {address} ({detail})"))
                    .hint("start one with: outlive dev     or name another with --server or OUTLIVE_SERVER")
            }
            ClientError::Address(_) => Self::usage(e.to_string()),
            ClientError::Answer(_) => Self::failed(e.to_string()),
            ClientError::Problem(problem) => {
                let mut message = problem.detail.clone();
                for field in &problem.errors {
                    message += &["\n  ", &field.field, ": ", &field.detail].concat();
                }
                let exit = match (problem.status, problem.code.as_str()) {
                    (400 | 413 | 415 | 422, _) => Exit::Usage,
                    (401 | 403, _) => Exit::NotAllowed,
                    (404, _) => Exit::NotFound,
                    (409, _) => Exit::Conflict,
                    _ => Exit::Failed,
                };
                Self::new(exit, message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlive_api::problem::{Code, Problem};

    #[test]
    fn a_run_s_end_has_a_code_of_its_own() {
        let codes = State::ALL.iter().map(|&s| (s.as_str(), of_state(s) as u8)).filter(|(_, code)| *code != 0);
        let expected = [("failed", 10), ("cancelled", 11), ("timed_out", 12), ("lost", 12), ("expired", 12)];
        assert_eq!(codes.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_problem_s_status_decides_the_code_and_its_fields_are_named() {
        let of = |code| {
            Failure::from(ClientError::Problem(Box::new(Problem::new(code, "no").field("runs[0].kind", "missing"))))
        };
        assert_eq!(of(Code::RunNotFound).exit, Exit::NotFound);
        assert_eq!(of(Code::Forbidden).exit, Exit::NotAllowed);
        assert_eq!(of(Code::KeyConflict).exit, Exit::Conflict);
        assert_eq!(of(Code::StoreFull).exit, Exit::Failed);
        let invalid = of(Code::InvalidRequest);
        assert_eq!((invalid.exit, invalid.message.as_str()), (Exit::Usage, "no\n  runs[0].kind: missing"));
    }

    #[test]
    fn no_server_is_code_6_and_says_how_to_start_one() {
        let failure = Failure::from(ClientError::Unreachable { address: "http://x".into(), detail: "refused".into() });
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.hint.unwrap().contains("outlive dev"));
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(failure.silent && failure.exit == Exit::Ok);
    }
}
