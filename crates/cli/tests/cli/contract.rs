//! The committed OpenAPI document and the server say the same, whatever is asked.

use crate::support::House;
use outlive_api::client::Client;
use outlive_api::runs::NewRun;
use outlive_api::workers::Register;
use outlive_core::Json;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/v1.json");
/// `cargo xtask setup` puts it there.
const TOOL: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/../tools/schemathesis/bin/st");
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";

/// Something that is there behind every id in a path; what removes it gets one of its own.
struct Known {
    run: String,
    to_delete: String,
    worker: String,
    to_leave: String,
    token: String,
}

async fn known(url: &str) -> Known {
    let client = Client::new(url, "default").unwrap();
    let run = async || client.create_run(&NewRun::of("never", Json::null()), None).await.unwrap().id.to_string();
    let register = async |name: &str| {
        let body = serde_json::json!({"protocol": outlive_api::PROTOCOL, "name": name, "kinds": ["none"], "liveness": "none",
            "instance": uuid::Uuid::new_v4()});
        client.register(&serde_json::from_value::<Register>(body).unwrap()).await.unwrap()
    };
    let (stays, leaves) = (register("stays").await, register("leaves").await);
    Known {
        run: run().await,
        to_delete: run().await,
        worker: stays.worker_id.to_string(),
        to_leave: leaves.worker_id.to_string(),
        token: stays.session_token,
    }
}

fn settings(known: &Known) -> String {
    let mut text = String::from("[parameters]\n\"query.follow\" = false\n\"query.wait\" = \"1ms\"\n");
    for (filter, parameter, value) in [
        ("include-path-regex = '/v1/runs/\\{id\\}'\nexclude-method = 'DELETE'", "id", known.run.as_str()),
        ("include-name = 'DELETE /v1/runs/{id}'", "id", &known.to_delete),
        ("include-path-regex = '/v1/workers/\\{id\\}(?!/leave)'", "id", &known.worker),
        ("include-name = 'POST /v1/workers/{id}/leave'", "id", &known.to_leave),
        ("include-path-regex = '/v1/queues/\\{name\\}'", "name", "default"),
    ] {
        write!(text, "[[operations]]\n{filter}\nparameters = {{ \"path.{parameter}\" = \"{value}\" }}\n").unwrap();
    }
    text
}

#[test]
fn nothing_that_is_asked_gets_an_answer_that_the_openapi_document_does_not_know() {
    assert!(Path::new(TOOL).exists(), "{TOOL} is not there; `cargo xtask setup` installs it");
    let house = House::open(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let known = runtime.block_on(known(&house.url));
    std::fs::write(house.folder.path().join("settings.toml"), settings(&known)).unwrap();
    // One at a time: with several threads the interpreter's own parser fails now and then.
    let output = Command::new(TOOL)
        .args(["--config-file", "settings.toml", "run", DOCUMENT, "--url", &house.url, "--checks", CHECKS])
        .args(["--phases", "coverage,fuzzing", "--max-examples", "8", "--seed", "1", "--no-shrink", "--workers", "1"])
        .args(["--continue-on-failure", "--request-timeout", "20", "--suppress-health-check", "all", "--no-color"])
        .args(["-H", &format!("Authorization:Bearer {}", known.token)])
        .current_dir(house.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let passed = said.lines().find_map(|l| l.trim().strip_suffix(" passed")?.split(' ').next()?.parse::<u32>().ok());
    assert!(passed.is_some_and(|n| n > 1_000), "too few cases to say anything: {said}");
}
