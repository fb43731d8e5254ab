//! `netdiag demo` and the other subcommands, as a person runs them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::process::{Command, Output};

fn netdiag(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netdiag")).args(arguments).env_remove("FIMS_SOCKET").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_demo_shows_every_verdict_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_netdiag")).arg("demo").env("TMPDIR", temporary.path()).output().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    for said in [
        "FAILED",
        "degraded",
        "unknown",
        "no ARP answer",
        "router 10.77.0.254",
        "undisturbed",
        "All 13 verdicts are as the site was built",
    ] {
        assert!(stdout.contains(said), "`{said}` is missing in\n{stdout}\n{stderr}");
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "something is left behind");
}

#[test]
fn the_demo_runs_on_the_loopback_too_and_speaks_json() {
    let output = netdiag(&["demo", "--loopback", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}\n{}", text(&output.stdout), text(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(result["endpoints"].as_array().unwrap().len() >= 8, "{result:#}");
}

#[test]
fn help_teaches_and_wrong_use_is_told() {
    let help = netdiag(&["serve", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    for taught in ["--settings", "--config-dir", "--state-dir", "--base-uri", "--process-name", "--socket", "fims send", "SIGTERM"]
    {
        assert!(text(&help.stdout).contains(taught), "`{taught}` is missing in\n{}", text(&help.stdout));
    }
    assert_eq!(netdiag(&["serv"]).status.code(), Some(2));
    assert_eq!(netdiag(&["serve", "--base-uri", "no slash"]).status.code(), Some(2));
    assert_eq!(netdiag(&["topology", "/no/such/dir"]).status.code(), Some(2));
    assert_eq!(netdiag(&["explain", "no.such.code"]).status.code(), Some(2));
}

#[test]
fn topology_shows_the_example_site() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/site");
    let shown = netdiag(&["topology", dir]);
    assert!(text(&shown.stdout).contains("This controller connects to"), "{}", text(&shown.stdout));
    let json: Value = serde_json::from_slice(&netdiag(&["topology", "--json", dir]).stdout).unwrap();
    assert_eq!(json["endpoints"].as_array().unwrap().len(), 7);
}

#[test]
fn the_doctor_says_what_to_do_about_each_failure() {
    let state = tempfile::tempdir().unwrap();
    let socket = state.path().join("nobody-listens");
    let output = netdiag(&[
        "doctor",
        "--json",
        "--socket",
        socket.to_str().unwrap(),
        "--state-dir",
        state.path().to_str().unwrap(),
        "--config-dir",
        concat!(env!("CARGO_MANIFEST_DIR"), "/examples/site"),
    ]);
    assert_eq!(output.status.code(), Some(1), "there is no bus");
    let checks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["rights", "ping", "capture", "interfaces", "configs", "state directory", "disk room", "bus"]);
    for check in &checks {
        assert!(check["ok"] == true || check["advice"].is_string(), "{check}");
    }
    let bus = checks.last().unwrap();
    assert_eq!(bus["ok"], false);
    assert!(bus["found"].as_str().unwrap().contains("nobody-listens"), "{bus}");
}

#[test]
fn codes_are_explained() {
    let listed = text(&netdiag(&["explain"]).stdout);
    for code in ["tcp.syn_unanswered", "arp.unanswered", "config.json_syntax"] {
        assert!(listed.contains(code), "{listed}");
        let explained = text(&netdiag(&["explain", code]).stdout);
        assert!(explained.contains("Check first"), "{explained}");
    }
}

#[test]
fn a_broken_pipe_is_no_failure() {
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_netdiag")).arg("explain").stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
