//! What comes over a wire: nothing that can be sent makes a reader panic, and what was written reads back as it was.

use outlive_api::client::Client;
use outlive_api::output::OutputEvent;
use outlive_api::report::{WireItem, WireResult};
use outlive_api::session::{Beat, Held, ServerMessage, WorkerMessage};
use outlive_core::report::{Completion, ExitReport, Failure, Frame, Item, Op, Wait};
use outlive_core::{Epoch, Json, LeaseRef, Millis, Reason, RunId, WorkerId};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};

fn lease() -> impl Strategy<Value = LeaseRef> {
    (any::<u128>(), any::<i64>())
        .prop_map(|(id, epoch)| LeaseRef { run_id: RunId(uuid::Uuid::from_u128(id)), epoch: Epoch(epoch) })
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![any::<i64>().prop_map(Into::into), ".*".prop_map(serde_json::Value::String)];
    let value = leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            btree_map(".*", inner, 0..4).prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    });
    value.prop_map(|value| Json::of(&value).expect("JSON"))
}

fn frame() -> impl Strategy<Value = Frame> {
    (1..i64::MAX, "[a-z]{1,64}", vec(any::<u8>(), 0..200)).prop_map(|(seq, channel, bytes)| Frame {
        seq,
        channel,
        bytes,
    })
}

/// Written by people and loops; JSON's reader may lose the last bit of a number with more than 15 digits.
fn fraction() -> impl Strategy<Value = f64> {
    (0..=1_000).prop_map(|n| f64::from(n) / 1_000.0)
}

fn exit() -> impl Strategy<Value = Option<ExitReport>> {
    proptest::option::of(
        (any::<Option<i32>>(), any::<bool>(), any::<u64>()).prop_map(|(code, timed_out, cpu_ms)| ExitReport {
            code,
            timed_out,
            cpu_ms,
            ..ExitReport::default()
        }),
    )
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        Just(Op::Start),
        frame().prop_map(Op::Output),
        (proptest::option::of(fraction()), any::<Option<String>>())
            .prop_map(|(fraction, note)| Op::Progress { fraction, note }),
        json().prop_map(Op::Checkpoint),
        (proptest::option::of(json()), exit(), vec(frame(), 0..3)).prop_map(|(result, exit, frames)| {
            let result = result.filter(|r| !r.is_null());
            Op::Complete(Completion { result, exit, last_output_seq: None, frames })
        }),
        (exit(), any::<Option<u32>>(), any::<bool>()).prop_map(|(exit, retry, permanent)| {
            Op::Fail(Failure {
                reason: Reason::ExitCode,
                error: None,
                exit,
                retry_after: retry.map(|n| Millis(n.into())),
                permanent,
                last_output_seq: Some(1),
            })
        }),
        exit().prop_map(|exit| Op::Lost { reason: Reason::ProcessKilled, exit }),
        any::<u32>().prop_map(|n| Op::Release(Wait::Delay { delay: Millis(n.into()), note: None })),
        any::<Option<String>>().prop_map(|note| Op::Release(Wait::Hold { note })),
        exit().prop_map(|exit| Op::Cancelled { exit }),
    ]
}

/// Text that looks like a message: parts of real ones in any order, or anything at all.
fn almost() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just(r#"{"type":"beat""#.to_owned()),
        Just(r#"{"type":"report","items":["#.to_owned()),
        Just(r#"{"type":"leases","leases":["#.to_owned()),
        Just(r#"{"op":"output","seq":1,"channel":"a""#.to_owned()),
        Just(r#","run_id":"01900000-0000-7000-8000-000000000000","epoch":2"#.to_owned()),
        Just(r#","base64":"////""#.to_owned()),
        Just("]}".to_owned()),
        Just("}".to_owned()),
        ".*",
    ];
    vec(part, 0..6).prop_map(|parts| parts.concat())
}

/// Reads the stream of a server that writes these pieces, one by one.
fn follow(pieces: Vec<Vec<u8>>) -> Result<Vec<OutputEvent>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().expect("a client");
        drop(tcp.set_nodelay(true));
        drop(tcp.read(&mut [0; 4_096]));
        drop(tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"));
        for piece in pieces {
            drop(tcp.write_all(&piece));
        }
    });
    let read = runtime.block_on(async {
        let client = Client::new(&address.to_string(), "default").expect("an address");
        let mut stream = client.output(RunId(uuid::Uuid::nil()), None, false).await.map_err(|e| e.to_string())?;
        let mut events = Vec::new();
        while let Some(event) = stream.next().await.map_err(|e| e.to_string())? {
            events.push(event);
        }
        Ok(events)
    });
    server.join().expect("the server ends");
    read
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn items_read_back_as_written(lease in lease(), op in op()) {
        let item = Item { lease, op };
        let text = serde_json::to_string(&WireItem::from(item.clone())).unwrap();
        let read: WireItem = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read.into_item(), Ok(item), "{}", text);
    }

    #[test]
    fn worker_messages_read_back_as_written(
        beat_seq: u64, credit: u64, seen_push_seq: u64, timer: bool, held in vec((lease(), any::<u64>()), 0..5),
        report_seq: u64, items in vec((lease(), op()), 0..4), replay: bool,
    ) {
        let held = held.into_iter().map(|(l, frozen_ms)| Held { run_id: l.run_id, epoch: l.epoch, frozen_ms }).collect();
        let beat = Beat { beat_seq, credit, seen_push_seq, timer, held };
        let text = serde_json::to_string(&WorkerMessage::Beat(beat.clone())).unwrap();
        prop_assert!(matches!(WorkerMessage::parse(&text), Ok(WorkerMessage::Beat(read)) if read == beat), "{}", text);

        let items: Vec<_> = items.into_iter().map(|(lease, op)| Item { lease, op }).collect();
        let sent = WorkerMessage::Report { report_seq, items: items.iter().cloned().map(WireItem::from).collect(), replay };
        let text = serde_json::to_string(&sent).unwrap();
        let Ok(WorkerMessage::Report { report_seq: seq, items: read, replay: again }) = WorkerMessage::parse(&text) else {
            panic!("{text}")
        };
        let read: Result<Vec<_>, _> = read.into_iter().map(WireItem::into_item).collect();
        prop_assert_eq!((seq, read, again), (report_seq, Ok(items), replay));
    }

    #[test]
    fn nothing_that_is_sent_makes_a_reader_panic(text in almost()) {
        if let Ok(WorkerMessage::Report { items, .. }) = WorkerMessage::parse(&text) {
            for item in items {
                drop(item.into_item());
            }
        }
        drop(ServerMessage::parse(&text));
        drop(serde_json::from_str::<WireItem>(&text).map(WireItem::into_item));
        drop(serde_json::from_str::<WireResult>(&text));
        drop(serde_json::from_str::<outlive_api::runs::NewRun>(&text));
        drop(serde_json::from_str::<outlive_api::workers::Register>(&text));
    }

    #[test]
    fn durations_and_ids_read_back_and_refuse_the_rest_without_a_panic(ms: u64, worker: i64, text in "\\PC*|[0-9]{0,30}\\.?[0-9]{0,30} ?[a-z]{0,2}") {
        prop_assert_eq!(Millis(ms).to_string().parse(), Ok(Millis(ms)));
        prop_assert_eq!(WorkerId(worker).to_string().parse(), Ok(WorkerId(worker)));
        drop(text.parse::<Millis>());
        drop(text.parse::<WorkerId>());
        drop(text.parse::<RunId>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn output_reaches_its_reader_byte_for_byte_however_the_stream_is_cut(
        frames in vec(prop_oneof![vec(any::<u8>(), 0..80), "[\r\n\u{0}\u{2028}: a]{0,20}".prop_map(String::into_bytes)], 0..8),
        cut in 1_usize..40,
    ) {
        let mut stream = String::new();
        for (offset, bytes) in frames.iter().enumerate() {
            let (text, base64) = outlive_api::report::encode(bytes);
            let chunk = serde_json::json!({"epoch": 1, "channel": "stdout", "text": text, "base64": base64, "at": "2026-01-01T00:00:00.000Z"});
            write!(stream, "id: {offset}\nevent: chunk\ndata: {chunk}\n\n: ping\n\n").unwrap();
        }
        let read = follow(stream.as_bytes().chunks(cut).map(<[u8]>::to_vec).collect()).unwrap();
        let bytes: Vec<_> = read.iter().map(|event| match event {
            OutputEvent::Chunk(chunk) => chunk.bytes(),
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(bytes, frames);
    }

    #[test]
    fn a_stream_of_anything_ends_in_events_or_an_error(bytes in vec(any::<u8>(), 0..300), event in "(attempt|chunk|lost|gap|end|x)") {
        let mut stream = format!("id: 1\nevent: {event}\ndata: ").into_bytes();
        stream.extend(bytes);
        stream.extend(b"\n\n");
        drop(follow(vec![stream]));
    }
}
