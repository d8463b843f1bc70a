//! Values that tests are made of.

use outlive_core::class::MatchClass;
use outlive_core::report::{Completion, Failure, Frame, Op};
use outlive_core::{Json, LeaseRef, Reason};
use outlive_store::LeaseRow;

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).expect("a test's JSON is well formed")
}

pub(crate) fn class(queue: &str) -> MatchClass {
    class_in("default", queue)
}

pub(crate) fn class_in(namespace: &str, queue: &str) -> MatchClass {
    MatchClass {
        namespace: namespace.to_owned(),
        queue: queue.to_owned(),
        kind: "exec".to_owned(),
        requires: std::collections::BTreeMap::new(),
        pin: None,
    }
}

pub(crate) fn lease(row: &LeaseRow) -> LeaseRef {
    LeaseRef { run_id: row.run.id, epoch: row.run.epoch }
}

pub(crate) fn complete() -> Op {
    Op::Complete(Completion::default())
}

pub(crate) fn frame(seq: i64, text: &str) -> Op {
    Op::Output(raw_frame(seq, "stdout", text.as_bytes()))
}

pub(crate) fn raw_frame(seq: i64, channel: &str, bytes: &[u8]) -> Frame {
    Frame { seq, channel: channel.to_owned(), bytes: bytes.to_vec() }
}

pub(crate) fn progress(fraction: f64) -> Op {
    Op::Progress { fraction: Some(fraction), note: None }
}

pub(crate) fn failure() -> Op {
    Op::Fail(Failure {
        reason: Reason::ExitCode,
        error: None,
        exit: None,
        retry_after: None,
        permanent: false,
        last_output_seq: None,
    })
}
