//! How a process ended, and whose doing it was.
//!
//! | ended by | means |
//! |---|---|
//! | exit 0 | done |
//! | another code | `exit_code`, the work's failure |
//! | SIGKILL, SIGTERM, SIGHUP that the agent did not send | `process_killed`, a loss: an operator, a host that shuts down, a host out of memory |
//! | any failure after the run's own memory limit killed something of it | `oom_killed`, the work's failure; not by SIGTERM, SIGHUP, which the kernel does not send for that |
//! | SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGXCPU, SIGPIPE | `signal`, the work's failure |
//! | SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU; SIGCHLD, SIGCONT, SIGURG, SIGWINCH | no end: it stands still and runs into its limits, or nothing happens |
//! | any other signal (SIGINT, SIGQUIT, SIGALRM, SIGUSR1, SIGTRAP, SIGXFSZ, SIGIO, SIGPWR, real-time signals …) | `signal` too: what sends them is a program or a person who means this very process, and a retry elsewhere costs no more than a failure |

use crate::reach::limits::OutOfMemory;
use outlive_core::Reason;
use outlive_core::report::ExitReport;

/// Whose doing an exit was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did what it should.
    Done,
    /// The work's own.
    Failed(Reason, String),
    /// Somebody outside killed it.
    Killed,
}

/// Whether the run's own limit of memory is why this process ended as it did. A shell ends with a code when a command of its
/// own is killed.
#[must_use]
pub fn is_over_memory(exit: &ExitReport, memory: OutOfMemory) -> bool {
    let ended_badly = exit.code != Some(0) && !matches!(exit.signal.as_deref(), Some("SIGTERM" | "SIGHUP"));
    memory == OutOfMemory::Own && ended_badly
}

/// Judges an exit that the agent did not ask for.
#[must_use]
pub fn verdict(exit: &ExitReport) -> Verdict {
    match (exit.code, exit.signal.as_deref()) {
        (Some(0), _) => Verdict::Done,
        (Some(code), _) => {
            let hint = match code {
                126 => " (the command was found, but cannot be executed)",
                127 => " (a shell says this when it does not find a command)",
                129..=192 => " (a shell says this when a signal ended a command of its own)",
                _ => "",
            };
            Verdict::Failed(Reason::ExitCode, format!("exit code {code}{hint}"))
        }
        (None, Some("SIGKILL" | "SIGTERM" | "SIGHUP") | None) => Verdict::Killed,
        (None, Some(signal)) => {
            let core = if exit.core_dumped { ", core dumped" } else { "" };
            Verdict::Failed(Reason::Signal, format!("ended by {signal}{core}"))
        }
    }
}

/// A signal's name.
#[must_use]
pub fn signal_name(number: i32) -> String {
    const NAMES: [&str; 32] = [
        "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    let known = usize::try_from(number).ok().filter(|&n| n > 0).and_then(|n| NAMES.get(n));
    known.map_or_else(|| format!("signal {number}"), |name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_signal(name: &str) -> ExitReport {
        ExitReport { signal: Some(name.to_owned()), ..ExitReport::default() }
    }

    #[test]
    fn a_kill_from_outside_is_a_loss_and_a_crash_is_a_failure() {
        for name in ["SIGKILL", "SIGTERM", "SIGHUP"] {
            assert_eq!(verdict(&by_signal(name)), Verdict::Killed);
        }
        for name in ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGSYS", "SIGXCPU", "SIGPIPE", "SIGINT"] {
            assert!(matches!(verdict(&by_signal(name)), Verdict::Failed(Reason::Signal, _)), "{name}");
        }
    }

    #[test]
    fn only_a_bad_end_under_its_own_limit_is_over_memory() {
        let exit = |code| ExitReport { code: Some(code), ..ExitReport::default() };
        for over in [by_signal("SIGKILL"), by_signal("SIGABRT"), exit(137)] {
            assert!(is_over_memory(&over, OutOfMemory::Own));
            assert!(!is_over_memory(&over, OutOfMemory::Above), "the host's memory is no fault of the run");
            assert!(!is_over_memory(&over, OutOfMemory::No));
        }
        for other in [by_signal("SIGTERM"), by_signal("SIGHUP"), exit(0)] {
            assert!(!is_over_memory(&other, OutOfMemory::Own));
        }
    }

    #[test]
    fn a_code_other_than_zero_is_a_failure_that_names_it() {
        let exit = |code| ExitReport { code: Some(code), ..ExitReport::default() };
        assert_eq!(verdict(&exit(0)), Verdict::Done);
        let Verdict::Failed(Reason::ExitCode, message) = verdict(&exit(3)) else { panic!("a failure") };
        assert_eq!(message, "exit code 3");
    }

    #[test]
    fn signals_have_their_own_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(40), "signal 40");
    }
}
