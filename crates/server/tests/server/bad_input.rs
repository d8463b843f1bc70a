//! What is wrong with a request is answered with the code and the field that `api.md` promises, and nothing else happens.

use crate::raw::Request;
use crate::support::{PATIENCE, World, noop, registration, world};
use outlive_api::client::calls::RunFilter;
use outlive_api::workers::WireLiveness;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// method, path, body, status, code, what the detail or a field says.
type Case = (&'static str, &'static str, &'static str, u16, &'static str, &'static str);

const RUN: &str = "01900000-0000-7000-8000-000000000000";

/// `RUN` in a path: a run that does not exist. `WORKER`: one that does.
const CASES: &[Case] = &[
    // Unknown and wrong fields.
    ("POST", "/v1/runs", r#"{"kind":"noop","colour":1}"#, 400, "invalid_request", "colour"),
    ("POST", "/v1/runs", r#"{"kind":7}"#, 400, "invalid_request", "expected a string"),
    ("POST", "/v1/runs", r#"{"kind":"noop","priority":101}"#, 400, "invalid_request", "priority"),
    ("POST", "/v1/runs", r#"{"kind":"noop","priority":1e400}"#, 400, "invalid_json", "out of range"),
    ("POST", "/v1/runs", r#"{"kind":"noop","priority":18446744073709551616}"#, 400, "invalid_request", "expected i16"),
    ("POST", "/v1/runs", r#"{"kind":"noop","priority":0.5}"#, 400, "invalid_request", "expected i16"),
    ("POST", "/v1/runs", r#"{"kind":"noop","max_attempts":0}"#, 400, "invalid_request", "max_attempts"),
    ("POST", "/v1/runs", r#"{"kind":"noop","max_attempts":-1}"#, 400, "invalid_request", "expected u32"),
    (
        "POST",
        "/v1/runs",
        r#"{"kind":"noop","run_timeout":"1 week"}"#,
        400,
        "invalid_request",
        "write a number and a unit",
    ),
    ("POST", "/v1/runs", r#"{"kind":"noop","run_at":"tomorrow"}"#, 400, "invalid_request", "tomorrow"),
    ("POST", "/v1/runs", r#"{"kind":"noop","id":"17"}"#, 400, "invalid_request", "UUID"),
    (
        "POST",
        "/v1/runs",
        r#"{"kind":"noop","id":"9b2ff0a2-5d2c-4d3a-9a77-0d0b0a0e1c11"}"#,
        400,
        "invalid_request",
        "version 7",
    ),
    ("POST", "/v1/runs", r#"{"kind":"a\u0000b"}"#, 400, "invalid_request", "control characters"),
    ("POST", "/v1/runs", r#"{"kind":""}"#, 400, "invalid_request", "1 to 200"),
    ("POST", "/v1/runs", r#"{"kind":"noop","tags":{"a":"\n"}}"#, 400, "invalid_request", "tags"),
    ("POST", "/v1/runs", r#"{"kind":"noop","subjects":["a","b","c","d","e"]}"#, 400, "invalid_request", "subjects"),
    ("POST", "/v1/runs", r#"{"kind":"noop","kind":"noop"}"#, 400, "invalid_request", "duplicate field"),
    ("POST", "/v1/runs", r#"{"kind":"noop","on_conflict":"fight"}"#, 400, "invalid_request", "fight"),
    ("POST", "/v1/runs", r#"{"kind":"exec","input":{"command":"ls"}}"#, 400, "invalid_request", "input"),
    ("POST", "/v1/runs", r#"{"kind":"exec","input":{"command":["a\u0000"]}}"#, 400, "invalid_request", "NUL"),
    (
        "POST",
        "/v1/runs",
        r#"{"kind":"noop","parent":"01900000-0000-7000-8000-000000000000"}"#,
        404,
        "run_not_found",
        "parent",
    ),
    ("POST", "/v1/runs", "", 400, "invalid_request", "kind"),
    // Malformed JSON.
    ("POST", "/v1/runs", "{", 400, "invalid_json", "EOF"),
    ("POST", "/v1/runs", r#"{"kind":"noop"}x"#, 400, "invalid_json", "trailing"),
    ("POST", "/v1/runs", r#"{"kind":"\ud800"}"#, 400, "invalid_json", "hex escape"),
    ("POST", "/v1/runs", "{\"kind\":\"no\u{1}op\"}", 400, "invalid_json", "control character"),
    ("POST", "/v1/runs", "[]", 400, "invalid_request", "JSON object"),
    ("POST", "/v1/runs", "null", 400, "invalid_request", "JSON object"),
    ("POST", "/v1/runs", r#"{"kind":"noop","input":NaN}"#, 400, "invalid_json", "expected value"),
    // A batch with one bad item.
    (
        "POST",
        "/v1/runs/batch",
        r#"{"runs":[{"kind":"noop"},{"kind":"noop","priority":-101}]}"#,
        400,
        "invalid_request",
        "runs[1].priority",
    ),
    ("POST", "/v1/runs/batch", r#"{"runs":[]}"#, 400, "invalid_request", "runs"),
    ("POST", "/v1/runs/batch", r#"{"runs":{}}"#, 400, "invalid_request", "expected a sequence"),
    // Ids that are none, and ids of nothing.
    ("GET", "/v1/runs/17", "", 400, "invalid_request", "not a run id"),
    ("GET", "/v1/runs/%ff%fe", "", 400, "invalid_request", "not a run id"),
    ("GET", "/v1/runs/%00", "", 400, "invalid_request", "not a run id"),
    ("GET", "/v1/runs/RUN", "", 404, "run_not_found", "no run"),
    ("DELETE", "/v1/runs/RUN", "", 404, "run_not_found", "no run"),
    ("POST", "/v1/runs/RUN/cancel", "", 404, "run_not_found", "no run"),
    ("POST", "/v1/runs/RUN/retry", "", 404, "run_not_found", "no run"),
    ("POST", "/v1/runs/RUN/release", "", 404, "run_not_found", "no run"),
    ("POST", "/v1/runs/RUN/signal", r#"{"name":"steer"}"#, 404, "run_not_found", "no run"),
    ("POST", "/v1/runs/RUN/cancel", r#"{"reason":7}"#, 400, "invalid_request", "expected a string"),
    ("GET", "/v1/runs/RUN/attempts", "", 404, "run_not_found", "no run"),
    ("GET", "/v1/runs/RUN/events", "", 404, "run_not_found", "no run"),
    ("GET", "/v1/runs/RUN/explain", "", 404, "run_not_found", "no run"),
    ("GET", "/v1/runs/RUN/output", "", 404, "run_not_found", "no run"),
    ("POST", "/v1/runs/RUN/report", r#"{"op":"start","epoch":1}"#, 401, "unauthenticated", "session token"),
    ("GET", "/v1/workers/17", "", 404, "worker_not_found", "no worker"),
    ("GET", "/v1/workers/wk_99999999999999999999", "", 404, "worker_not_found", "no worker"),
    ("POST", "/v1/workers/wk_77/drain", "", 404, "worker_not_found", "no worker"),
    ("POST", "/v1/workers/wk_77/undrain", "", 404, "worker_not_found", "no worker"),
    ("POST", "/v1/workers/wk_77/evict", "", 404, "worker_not_found", "no worker"),
    ("POST", "/v1/workers/WORKER/leave", "", 401, "unauthenticated", "session token"),
    (
        "POST",
        "/v1/workers/WORKER/claim",
        r#"{"request_id":"01900000-0000-7000-8000-000000000000"}"#,
        401,
        "unauthenticated",
        "session token",
    ),
    ("POST", "/v1/workers/WORKER/report", "{}", 401, "unauthenticated", "session token"),
    ("GET", "/v1/workers/WORKER/session", "", 401, "unauthenticated", "session token"),
    ("GET", "/v1/queues/nowhere", "", 404, "queue_not_found", "no queue nowhere"),
    ("GET", "/v1/queues/%ff", "", 400, "invalid_request", "percent-encoded"),
    ("POST", "/v1/queues/nowhere/pause", "", 404, "queue_not_found", "no queue"),
    ("POST", "/v1/queues/nowhere/resume", "", 404, "queue_not_found", "no queue"),
    ("PUT", "/v1/queues/q", r#"{"lease_ttl":"10ms"}"#, 400, "invalid_request", "lease_ttl"),
    ("PUT", "/v1/queues/q", r#"{"colour":"red"}"#, 400, "invalid_request", "colour"),
    ("PUT", "/v1/queues/%0a", "{}", 400, "invalid_request", "control characters"),
    // Cursors from elsewhere, and queries.
    ("GET", "/v1/runs?cursor=zebra", "", 400, "invalid_request", "cursor"),
    ("GET", "/v1/runs?cursor=9223372036854775808", "", 400, "invalid_request", "cursor"),
    ("GET", "/v1/workers?cursor=1.5", "", 400, "invalid_request", "cursor"),
    ("GET", "/v1/recoveries?cursor=x", "", 400, "invalid_request", "cursor"),
    ("GET", "/v1/recoveries?run=x", "", 400, "invalid_request", "UUID"),
    ("GET", "/v1/runs/RUN/output?after=x", "", 400, "invalid_request", "after"),
    ("GET", "/v1/runs/RUN/output?after=-1", "", 400, "invalid_request", "after"),
    ("GET", "/v1/runs/RUN/output?view=some", "", 400, "invalid_request", "view"),
    ("GET", "/v1/runs/RUN/output?format=xml", "", 400, "invalid_request", "format"),
    ("GET", "/v1/runs/RUN?wait=soon", "", 400, "invalid_request", "soon"),
    ("GET", "/v1/runs?limit=-1", "", 400, "invalid_request", "limit"),
    ("GET", "/v1/runs?limit=0", "", 400, "invalid_request", "limit"),
    ("GET", "/v1/runs?limit=1001", "", 400, "invalid_request", "limit"),
    ("GET", "/v1/runs?colour=red", "", 400, "invalid_request", "colour"),
    ("GET", "/v1/runs?state=happy", "", 400, "invalid_request", "state"),
    ("GET", "/v1/runs?reason=mood", "", 400, "invalid_request", "reason"),
    ("GET", "/v1/runs?tag=a", "", 400, "invalid_request", "key:value"),
    ("GET", "/v1/runs?stuck=all", "", 400, "invalid_request", "stuck"),
    // Registration.
    (
        "POST",
        "/v1/workers",
        r#"{"protocol":99,"name":"w","instance":"01900000-0000-7000-8000-000000000000","kinds":["a"]}"#,
        426,
        "protocol_unsupported",
        "protocol 99, this server speaks 1; upgrade the servers first",
    ),
    (
        "POST",
        "/v1/workers",
        r#"{"protocol":1,"name":"w","instance":"w","kinds":["a"]}"#,
        400,
        "invalid_request",
        "UUID",
    ),
    (
        "POST",
        "/v1/workers",
        r#"{"protocol":1,"name":"","instance":"01900000-0000-7000-8000-000000000000","kinds":["a"]}"#,
        400,
        "invalid_request",
        "name",
    ),
    (
        "POST",
        "/v1/workers",
        r#"{"protocol":1,"name":"w","instance":"01900000-0000-7000-8000-000000000000","kinds":[]}"#,
        400,
        "invalid_request",
        "kinds",
    ),
    (
        "POST",
        "/v1/workers",
        r#"{"protocol":1,"name":"w","instance":"01900000-0000-7000-8000-000000000000","kinds":["a"],"slots":0}"#,
        400,
        "invalid_request",
        "slots",
    ),
    (
        "POST",
        "/v1/workers",
        r#"{"protocol":1,"name":"w","instance":"01900000-0000-7000-8000-000000000000","kinds":["a"],"liveness":"poll","heartbeat_interval":"1ms"}"#,
        400,
        "invalid_request",
        "heartbeat_interval",
    ),
    // Paths and methods.
    ("GET", "/v1/nothing", "", 404, "not_found", "no such path"),
    ("GET", "/v1/runs/../../etc/passwd", "", 404, "not_found", "no such path"),
    ("PATCH", "/v1/runs", "{}", 405, "method_not_allowed", "other methods"),
    ("DELETE", "/livez", "", 405, "method_not_allowed", "other methods"),
];

async fn a_worker(world: &World) -> outlive_api::workers::Registered {
    world.client.register(&registration("p-1", WireLiveness::Poll)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_request_gets_its_status_its_code_and_a_sentence() {
    let world = world().await;
    let worker = a_worker(&world).await.worker_id.to_string();
    let mut wrong = Vec::new();
    for &(method, path, body, status, code, says) in CASES {
        let mut request = Request::new(method, path.replace("RUN", RUN).replace("WORKER", &worker));
        request.body = (!body.is_empty()).then(|| body.to_owned());
        let answer = request.send(world.server.address()).await;
        let text = answer.body.to_string();
        if (answer.status, answer.code()) != (status, code) || !text.contains(says) {
            wrong.push(format!("{method} {path} {body}\n  {status} {code} {says}\n  {} {text}", answer.status));
        }
        assert!(answer.head.contains("content-type: application/problem+json"), "{method} {path}: {}", answer.head);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(world.client.runs(&RunFilter::default()).await.unwrap().runs.is_empty(), "nothing was created");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_with_its_limit() {
    let world = world().await;
    let worker = a_worker(&world).await;
    let input = |n: usize| format!(r#"{{"kind":"noop","input":"{}"}}"#, "x".repeat(n));
    let many = format!(r#"{{"runs":[{}]}}"#, vec![r#"{"kind":"noop"}"#; 1_001].join(","));
    let labels: Vec<_> = (0..33).map(|n| format!(r#""{n}":"x""#)).collect();
    let deep = format!(r#"{{"kind":"noop","input":{}{}}}"#, "[".repeat(400_000), "]".repeat(400_000));
    let cases = [
        ("/v1/runs", input((1 << 20) + 1), 413, "1048576"),
        ("/v1/runs", input(5 << 20), 413, "4194304"),
        ("/v1/runs/batch", many, 413, "1000"),
        ("/v1/runs", format!(r#"{{"kind":"noop","tags":{{{}}}}}"#, labels.join(",")), 400, "32"),
        ("/v1/runs", format!(r#"{{"kind":"{}"}}"#, "k".repeat(201)), 400, "200"),
        ("/v1/runs", deep, 400, "nested deeper than 120"),
        ("/v1/runs", "{".repeat(1 << 20), 400, "key must be a string"),
    ];
    for (path, body, status, says) in cases {
        let mut request = Request::new("POST", path);
        request.body = Some(body);
        let answer = request.send(world.server.address()).await;
        assert_eq!(answer.status, status, "{path} {says}: {}", answer.body);
        assert!(answer.body.to_string().contains(says), "{says}: {}", answer.body);
    }
    // A report's items are answered one by one: one that is too large never blocks another.
    let run = world.client.create_run(&noop(), None).await.unwrap();
    let token = world.client.with_token(&worker.session_token);
    let claim = serde_json::json!({"request_id": uuid::Uuid::new_v4(), "max": 1, "wait": "5s"});
    let leases = token.claim(worker.worker_id, &serde_json::from_value(claim).unwrap()).await.unwrap().leases;
    let item = |more: serde_json::Value| {
        let mut item = serde_json::json!({"run_id": run.id, "epoch": leases[0].epoch});
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        item
    };
    let nested = (0..121).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
    let items = [
        (item(serde_json::json!({"op": "checkpoint", "data": "x".repeat(65 << 10)})), "invalid"),
        (
            item(serde_json::json!({"op": "output", "seq": 1, "channel": "stdout", "text": "x".repeat(257 << 10)})),
            "invalid",
        ),
        (item(serde_json::json!({"op": "output", "seq": 1, "channel": "a\u{1}", "text": "x"})), "invalid"),
        (item(serde_json::json!({"op": "output", "seq": 1, "channel": "stdout", "base64": "***"})), "invalid"),
        (item(serde_json::json!({"op": "output", "seq": 7, "channel": "stdout", "text": "x"})), "gap"),
        (item(serde_json::json!({"op": "progress", "fraction": 2.0})), "invalid"),
        (item(serde_json::json!({"op": "lost", "reason": "cancelled"})), "invalid"),
        (item(serde_json::json!({"op": "complete", "result": "x".repeat((1 << 20) + 1)})), "invalid"),
        (item(serde_json::json!({"op": "checkpoint", "data": nested})), "invalid"),
        (serde_json::json!({"op": "start", "run_id": RUN, "epoch": 1}), "invalid"),
        (item(serde_json::json!({"op": "checkpoint", "data": {"i": 1}})), "ok"),
    ];
    let body = serde_json::json!({"items": items.iter().map(|(item, _)| item).collect::<Vec<_>>()});
    let report = Request::new("POST", format!("/v1/workers/{}/report", worker.worker_id))
        .header("authorization", format!("Bearer {}", worker.session_token))
        .json(&body);
    let answer = report.send(world.server.address()).await;
    let statuses: Vec<_> = items.iter().map(|(_, status)| *status).collect();
    let found: Vec<_> =
        answer.body["results"].as_array().unwrap().iter().map(|r| r["status"].as_str().unwrap()).collect();
    assert_eq!(found, statuses, "{}", answer.body);
    assert_eq!(world.client.run(run.id).await.unwrap().checkpoint.unwrap().text(), r#"{"i":1}"#);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_request_ends_its_connection_and_nothing_else() {
    let world = world().await;
    let address = world.server.address();
    let many = "x-many: y\r\n".repeat(200);
    for request in [
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        "GET /livez HTTP/9.9\r\n\r\n".to_owned(),
        format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"),
        format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(1 << 20)),
        "GET /livez HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n".to_owned(),
        "POST /v1/runs HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n".to_owned(),
        "POST /v1/runs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
            .to_owned(),
    ] {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        // It may be closed before all of it is written.
        let _ = tcp.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.expect("it is closed");
        let head = String::from_utf8_lossy(&answer);
        assert!(read.is_err() || answer.is_empty() || head.starts_with("HTTP/1.1 4"), "{request:.80}: {head}");
        assert!(world.client.is_live().await);
    }
    world.server.stop().await;
}
