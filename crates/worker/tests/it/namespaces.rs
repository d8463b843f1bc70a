//! What is started inside a container from outside, as `docker exec` and many runners do: its session is 0, and `/proc` may
//! show the numbers of another PID namespace.

use std::process::{Command, Stdio};

/// How a PID namespace can be had: as root, with a user namespace, or by asking root.
const WAYS: [&[&str]; 3] = [
    &["unshare", "--pid", "--fork", "--kill-child"],
    &["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"],
    &["sudo", "-n", "unshare", "--pid", "--fork", "--kill-child"],
];

fn inside(options: &[&str]) -> Command {
    let works = |way: &&&[&str]| {
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).args(options).arg("true").stderr(Stdio::null());
        command.status().is_ok_and(|s| s.success())
    };
    let way = WAYS.iter().find(works).expect("unshare, as root, with user namespaces, or with passwordless sudo");
    let mut command = Command::new(way[0]);
    command.args(&way[1..]).args(options);
    command
}

fn passes(options: &[&str], tests: &[&str]) {
    let mut command = inside(options);
    let command = command.arg(std::env::current_exe().unwrap()).arg("--exact").args(tests);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{options:?}: {said}");
    assert!(said.contains(&format!("{} passed", tests.len())), "{options:?}: {said}");
}

#[test]
fn work_is_started_found_and_ended_where_the_session_is_outside() {
    let tests = [
        "agent::a_command_runs_and_its_output_and_end_arrive_in_order",
        "agent::when_the_agent_is_killed_everything_that_it_started_dies",
        "commands::exits_are_told_apart",
        "commands::term_reaches_the_group_and_kill_everything",
        "commands::the_end_of_the_main_process_ends_the_attempt_and_what_it_left_behind",
        "hazards::nothing_is_left_half_a_second_after_its_agent_was_killed",
        "limits::a_fork_bomb_stays_within_its_limit_and_ends_with_its_attempt",
        "limits::a_run_within_its_limit_that_the_kernel_kills_is_a_loss",
    ];
    for options in [&["--mount-proc"][..], &[]] {
        passes(options, &tests);
    }
}
