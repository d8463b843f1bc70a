//! What a web page or a confused client may not do.

use crate::support::world;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn raw(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn post(host: &str, extra: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1/runs HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{extra}\r\n{body}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_pages_wrong_hosts_and_other_media_types_are_refused() {
    let world = world().await;
    let at = world.server.address();
    let json = "Content-Type: application/json\r\n";
    let body = r#"{"kind":"noop"}"#;
    let cases = [
        (post("localhost", json, body), "201"),
        (post("evil.example", json, body), "foreign_origin"),
        (post("localhost", &format!("{json}Origin: http://evil.example\r\n"), body), "foreign_origin"),
        (post("localhost", "Content-Type: text/plain\r\n", body), "unsupported_media_type"),
        (post("localhost", json, "{"), "invalid_json"),
        (post("localhost", json, r#"{"kind":"noop","colour":1}"#), "colour"),
        (post("localhost", json, r#"{"queue":"q"}"#), "kind"),
        (post("localhost", json, r#"{"kind":"exec","input":{"command":[]}}"#), "must name a program"),
        (
            post("localhost", json, r#"{"kind":"exec","input":{"command":["a"],"limits":{"memory_bytes":0}}}"#),
            "input.limits.memory_bytes: must be at least 1",
        ),
        (
            post("localhost", json, r#"{"kind":"exec","input":{"command":["a"],"limits":{"pids":-1}}}"#),
            "must be at least 1",
        ),
        (
            post("localhost", json, r#"{"kind":"exec","input":{"command":["a"],"limits":{"cpu":1}}}"#),
            "unknown field `cpu`",
        ),
    ];
    for (request, expected) in cases {
        let answer = raw(at, &request).await;
        assert!(answer.contains(expected), "{request}\n{answer}");
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_loopback_needs_an_explicit_flag() {
    let config = outlive_server::Config {
        listen: "0.0.0.0:0".parse().unwrap(),
        store: outlive_server::StoreLocation::Memory,
        advertise: String::new(),
        insecure_listen: false,
        replica: String::new(),
        low_disk: 0,
        liveness: None,
        settings: Vec::new(),
        version: "test".into(),
    };
    let refused = outlive_server::start(config).await.unwrap_err();
    assert!(refused.to_string().contains("--insecure-listen"), "{refused}");
}

#[test]
fn the_committed_openapi_document_is_the_one_of_this_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/v1.json");
    let committed = std::fs::read_to_string(path).expect("openapi/v1.json; write it with: cargo xtask openapi");
    assert!(committed == outlive_server::openapi(), "openapi/v1.json is stale; write it with: cargo xtask openapi");
}
