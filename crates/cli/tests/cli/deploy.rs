//! What lies in `deploy/`, and the commands of `docs/cluster.md`, held against the programs that would read it, and against the flags, variables and metrics of this binary.

use crate::support::{Answer, House, outlive, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
/// `cargo xtask setup` puts tools there.
const TOOLS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/../tools");

fn file(name: &str) -> PathBuf {
    let path = Path::new(DEPLOY).join(name);
    assert!(path.exists(), "{}", path.display());
    path
}

fn text(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap()
}

fn tool(name: &str) -> PathBuf {
    let path = Path::new(TOOLS).join(name);
    assert!(path.exists(), "{} is not there; `cargo xtask setup` provides it", path.display());
    path
}

fn passes(command: &mut Command) -> Answer {
    let answer = Answer::of(&command.output().unwrap());
    assert_eq!(answer.code, 0, "{command:?}: {answer:?}");
    answer
}

/// All files below `deploy/` that people edit.
fn files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(DEPLOY)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(DEPLOY).unwrap().display().to_string();
                found.push((name, fs::read_to_string(entry.path()).unwrap()));
            }
        }
    }
    found
}

#[test]
fn units_are_verified_by_systemd() {
    let folder = tempfile::tempdir().unwrap();
    let verify = |name: &str, text: &str| {
        let unit = folder.path().join(name);
        fs::write(&unit, text.replace("/usr/local/bin/outlive", env!("CARGO_BIN_EXE_outlive"))).unwrap();
        Answer::of(&Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap())
    };
    for name in ["outlive-server.service", "outlive-worker@.service"] {
        let unit = text(&format!("systemd/{name}"));
        let answer = verify(name, &unit);
        assert_eq!((answer.code, answer.err.contains(name)), (0, false), "{answer:?}");
        let twin = verify(name, &unit.replace("KillMode=", "KilMode="));
        assert!(twin.err.contains("KilMode"), "a typing error is found: {twin:?}");
    }
}

#[test]
fn compose_and_kubernetes_files_are_of_their_schemas() {
    let folder = tempfile::tempdir().unwrap();
    let compose = |path: &Path| {
        let mut check = Command::new(tool("schemas/bin/check-jsonschema"));
        check.args(["--builtin-schema", "vendor.compose-spec"]).arg(path);
        check
    };
    let kubernetes = |path: &Path| {
        let mut check = Command::new(tool("schemas/bin/kubernetes-validate"));
        check.arg("--strict").arg(path);
        check
    };
    passes(&mut compose(&file("compose/compose.yaml")));
    let passed = passes(&mut kubernetes(&file("kubernetes/outlive.yaml")));
    let objects = text("kubernetes/outlive.yaml").lines().filter(|line| line.starts_with("kind: ")).count();
    assert_eq!(format!("{}{}", passed.out, passed.err).matches(" passed ").count(), objects, "{passed:?}");
    let twin = folder.path().join("twin.yaml");
    fs::write(&twin, text("compose/compose.yaml").replace("healthcheck:", "healthchek:")).unwrap();
    assert_ne!(compose(&twin).output().unwrap().status.code(), Some(0));
    fs::write(&twin, text("kubernetes/outlive.yaml").replace("replicas: 3", "replica: 3")).unwrap();
    assert_ne!(kubernetes(&twin).output().unwrap().status.code(), Some(0));
}

/// Command lines of the binary in these files, each as its words.
fn command_lines() -> Vec<Vec<String>> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let list = |line: &str| {
        let inside = line.split_once('[').and_then(|(_, rest)| rest.rsplit_once(']')).map_or("", |(inside, _)| inside);
        inside.split(", ").map(|word| word.trim_matches('"').to_owned()).collect::<Vec<_>>()
    };
    let mut lines = Vec::new();
    for (_, text) in files() {
        for line in text.lines().map(str::trim) {
            match line.split_once([' ', '=']) {
                Some(("ExecStart", rest)) => lines.push(words(rest.split_once(' ').unwrap().1)),
                Some(("args:" | "command:", _)) if line.contains('[') => lines.push(list(line)),
                _ => {}
            }
        }
    }
    let docs = fs::read_to_string(file("../docs/cluster.md")).unwrap();
    for block in docs.split("```sh\n").skip(1) {
        let commands = block.split("```").next().unwrap_or_default().lines();
        let commands = commands.filter_map(|line| line.split('#').next()?.strip_prefix("outlive "));
        lines.extend(commands.map(words));
    }
    lines
}

#[test]
fn every_command_line_in_deploy_is_one_of_this_binary() {
    let lines = command_lines();
    assert!(lines.len() >= 12, "{lines:?}");
    for line in &lines {
        // The flags are read before help is.
        let answer = Answer::of(&outlive().args(line).arg("--help").output().unwrap());
        assert!(answer.code == 0 && answer.out.starts_with("Examples"), "{line:?}: {answer:?}");
    }
    let twin = Answer::of(&outlive().args(["server", "--insecure-lisen", "--help"]).output().unwrap());
    assert_eq!(twin.code, 2, "a flag that does not exist is found: {twin:?}");
}

#[test]
fn every_variable_in_deploy_is_one_of_this_binary() {
    let all: Value =
        serde_json::from_str(&passes(outlive().args(["config", "explain", "--all", "-o", "json"])).out).unwrap();
    let known: BTreeSet<String> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|s| format!("OUTLIVE_{}", s["name"].as_str().unwrap().to_ascii_uppercase()))
        .collect();
    let mut used = BTreeSet::new();
    for (_, text) in files() {
        for (at, _) in text.match_indices("OUTLIVE_") {
            let is_name = |c: &char| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_';
            used.insert(text[at..].chars().take_while(is_name).collect::<String>());
        }
    }
    assert!(used.len() >= 8, "{used:?}");
    assert_eq!(used.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// The balancer's file with addresses of this machine: the second replica lives, the others do not.
fn balancer(port: u16, replica: &str) -> String {
    text("compose/nginx.conf")
        .replace("pid /tmp/nginx.pid;", "pid nginx.pid; daemon off; master_process off; error_log stderr;")
        .replace("listen 7070;", &format!("listen 127.0.0.1:{port};"))
        .replace("outlive-1:7070", "127.0.0.1:1")
        .replace("outlive-2:7070", replica)
        .replace("outlive-3:7070", "127.0.0.1:9")
}

/// The house behind an nginx with the balancer's file, in which something may be changed.
pub(crate) fn behind(house: &mut House, change: (&str, &str)) -> crate::support::Running {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = house.folder.path().join(format!("nginx-{port}"));
    let replica = house.url.trim_start_matches("http://").to_owned();
    fs::create_dir_all(folder.join("temp")).unwrap();
    let temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temps = temps.map(|kind| format!("{kind}_temp_path temp/{kind};")).join(" ");
    let config = balancer(port, &replica).replace("access_log off;", &format!("access_log off; {temps}"));
    assert!(config.contains(change.0), "{} is not in it", change.0);
    fs::write(folder.join("nginx.conf"), config.replace(change.0, change.1)).unwrap();
    let prefix = format!("{}/", folder.display());
    let nginx = || {
        let mut command = Command::new(tool("debian/usr/sbin/nginx"));
        command.args(["-p", &prefix, "-c", "nginx.conf", "-e", "stderr"]);
        command
    };
    passes(nginx().arg("-t"));
    let child = nginx().stderr(fs::File::create(folder.join("log")).unwrap()).stdout(Stdio::null()).spawn().unwrap();
    house.url = format!("http://127.0.0.1:{port}");
    until("it answers", || house.call(&["workers", "list"]).code == 0);
    crate::support::Running(child)
}

#[test]
fn a_worker_a_run_and_its_output_go_through_the_load_balancer() {
    let mut house = House::open(0);
    let _nginx = behind(&mut house, ("", ""));
    house.hire("w-1");
    let done = house.call(&["run", "--", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"]);
    assert_eq!((done.code, done.out.as_str()), (0, "1\n2\n3\n"), "{done:?}");
    let worker = &house.json(&["workers", "list"])[0];
    assert_eq!((worker["name"].as_str(), worker["status"].as_str()), (Some("w-1"), Some("online")), "{worker}");
}

/// Every expression of the dashboard, with its variables filled in.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text("grafana/outlive.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let mut found = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["title"].is_string() && panel["description"].is_string(), "{panel}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            found.push(expression.replace("$__rate_interval", "1m").replace("$job", "outlive"));
        }
    }
    found
}

/// The names of our metrics in a text; a histogram by its own.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_name = |c: &char| c.is_ascii_lowercase() || *c == '_';
    let name = |at: usize| text[at..].chars().take_while(is_name).collect::<String>();
    let plain = |name: String| {
        let ending = ["_bucket", "_sum", "_count"].into_iter().find(|ending| name.ends_with(ending));
        name.strip_suffix(ending.unwrap_or_default()).unwrap_or_default().to_owned()
    };
    text.match_indices("outlive_").map(|(at, _)| plain(name(at))).collect()
}

#[test]
fn rules_and_dashboard_are_loaded_and_every_metric_in_them_is_measured() {
    let promtool = || Command::new(tool("debian/usr/bin/promtool"));
    passes(promtool().args(["check", "config"]).arg(file("prometheus/prometheus.yaml")));
    passes(promtool().args(["test", "rules"]).arg(file("prometheus/alerts_test.yaml")));
    let tested = text("prometheus/alerts_test.yaml");
    for name in text("prometheus/alerts.yaml").lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tested.contains(&format!("alertname=\"{name}\"")), "{name} is shown to fire");
    }
    // A rule for each expression of the dashboard: who reads rules reads them.
    let mut house = House::open(1);
    let rules: Vec<_> = expressions()
        .iter()
        .enumerate()
        .map(|(n, expr)| serde_json::json!({"record": format!("panel:{n}"), "expr": expr}))
        .collect();
    let rules = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let path = house.folder.path().join("rules.yaml");
    fs::write(&path, rules.to_string()).unwrap();
    passes(promtool().args(["check", "rules"]).arg(&path));

    // What a server measures once work was done, and a worker was lost.
    assert_eq!(house.call(&["run", "--", "true"]).code, 0);
    let id = house.start("exec sleep 1000");
    house.until("it runs", |h| h.show(&id)["state"] == "running");
    house.worker("w-1").signal("-9");
    house.hire("w-2");
    house.until("it runs again", |h| h.show(&id)["lease"]["worker_name"] == "w-2" && h.show(&id)["state"] == "running");
    let used = metrics(&[rules.to_string(), text("prometheus/alerts.yaml")].concat());
    assert!(used.len() >= 15, "{used:?}");
    let scrape = || passes(Command::new("curl").args(["--silent", "--fail", &format!("{}/metrics", house.url)])).out;
    let missing = |measured: &BTreeSet<String>| used.difference(measured).cloned().collect::<Vec<_>>();
    until(&format!("{used:?} are all measured"), || missing(&metrics(&scrape())).is_empty());
    assert!(!missing(&metrics("outlive_runs 1")).is_empty(), "one that is not measured is found");
}
