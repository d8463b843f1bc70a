//! What the end of an attempt means: one report, decided from how it ended and from why it was asked to.

use super::run::{Phase, Why};
use super::types::{End, Parsed};
use crate::runtime::exit::{Verdict, verdict};
use outlive_core::Reason;
use outlive_core::report::{Completion, ErrorReport, ExitReport, Failure, Op, Wait};

/// The report, if there is anything to report. `last_seq`: the attempt's last frame.
pub(super) fn last_word(phase: &Phase, end: End, last_seq: i64) -> Option<Op> {
    let why = match phase {
        Phase::Doomed | Phase::Ended | Phase::Waiting(_) => return None,
        Phase::Stopping { why, .. } => Some(why),
        Phase::Starting | Phase::Running => None,
    };
    let last = (last_seq > 0).then_some(last_seq);
    Some(match why {
        None => own_end(end, last),
        Some(Why::Limit(reason)) => {
            let exit = exit_of(&end).map(|exit| ExitReport { timed_out: true, ..exit });
            fail(*reason, reason.text(), exit, last)
        }
        Some(Why::Release(wait)) => Op::Release(wait.clone()),
        Some(Why::Isolation) => Op::Lost { reason: Reason::WorkerExited, exit: exit_of(&end) },
        // Work that ends well by itself has ended well, whoever wanted it to stop.
        Some(Why::Cancel | Why::HandBack) if went_well(&end) => own_end(end, last),
        Some(Why::Cancel) => Op::Cancelled { exit: exit_of(&end) },
        Some(Why::HandBack) => Op::Release(Wait::Nothing),
    })
}

/// The attempt ended without being asked to.
fn own_end(end: End, last: Option<i64>) -> Op {
    match end {
        End::Exit { exit, output } => match verdict(&exit) {
            Verdict::Done => match output {
                Parsed::Log => complete(None, exit, last),
                Parsed::Value(value) => complete(Some(value), exit, last),
                Parsed::Invalid { message } => fail(Reason::OutputInvalid, &message, Some(exit), last),
            },
            Verdict::Failed(reason, message) => fail(reason, &message, Some(exit), last),
            Verdict::Killed => Op::Lost { reason: Reason::ProcessKilled, exit: Some(exit) },
        },
        End::OverMemory { exit, limit } => {
            let message = format!("it needed more memory than its limit of {limit} allows");
            fail(Reason::OomKilled, &message, Some(exit), last)
        }
        End::Rejected { message } => match fail(Reason::Rejected, &message, None, last) {
            Op::Fail(failure) => Op::Fail(Failure { permanent: true, ..failure }),
            other => other,
        },
        End::HostFailed { .. } => Op::Lost { reason: Reason::WorkerExited, exit: None },
        End::Said(Op::Complete(completion)) => Op::Complete(Completion { last_output_seq: last, ..completion }),
        End::Said(Op::Fail(failure)) => Op::Fail(Failure { last_output_seq: last, ..failure }),
        End::Said(op) if op.ends_attempt() => op,
        End::Said(_) | End::Vanished => fail(Reason::HandlerError, "the handler went away without an end", None, last),
    }
}

fn complete(result: Option<outlive_core::Json>, exit: ExitReport, last_output_seq: Option<i64>) -> Op {
    Op::Complete(Completion { result, exit: Some(exit), last_output_seq, frames: Vec::new() })
}

fn fail(reason: Reason, message: &str, exit: Option<ExitReport>, last_output_seq: Option<i64>) -> Op {
    let error = Some(ErrorReport { message: message.to_owned(), ..ErrorReport::default() });
    Op::Fail(Failure { reason, error, exit, retry_after: None, permanent: false, last_output_seq })
}

fn went_well(end: &End) -> bool {
    match end {
        End::Exit { exit, .. } => exit.code == Some(0),
        End::Said(op) => matches!(op, Op::Complete(_)),
        _ => false,
    }
}

fn exit_of(end: &End) -> Option<ExitReport> {
    match end {
        End::Exit { exit, .. } | End::OverMemory { exit, .. } => Some(exit.clone()),
        _ => None,
    }
}
