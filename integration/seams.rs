//! What the monitor tells of snapshots that follow on one another, and when: the real binary, one event in the time that two of them share,
//! filing that waits for the disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    thread,
    time::{Duration, Instant},
};
use support::{
    private_network,
    service::{Asker, Options, Service, bus, modbus_client},
    talk::{DEVICE, Talk},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// The monitor is on from the start, and records snapshots of four seconds.
fn options(more: &Value) -> Options {
    let mut monitor =
        json!({"snapshot_s": 4, "overlap_s": 2, "min_free_bytes": 1 << 20, "interfaces": ["lo"], "pre_s": 0, "neighbours": 0});
    monitor.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Options { settings: json!({"monitor": monitor, "monitor_enabled": true}), ..Options::default() }
}

/// Those in this state, oldest first, in short.
async fn listed(service: &Service, state: &str) -> Vec<String> {
    let list = service.ask("get", "/monitor/snapshots", Some(&json!({"state": state}).to_string())).await;
    let ids = list["snapshots"].as_array().unwrap().iter().rev().map(|one| one["snapshot_id"].as_str().unwrap().to_owned());
    ids.collect()
}

/// A snapshot, when it is filed.
async fn filed(service: &Service, snapshot_id: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let snapshot = service.get(&format!("/monitor/snapshots/{snapshot_id}")).await;
        if snapshot["state"] == "temporary" || snapshot["state"] == "archived" {
            return snapshot;
        }
        assert!(Instant::now() < deadline, "not filed: {snapshot:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn exceptions(snapshot: &Value) -> u64 {
    let found = snapshot["findings"].as_array().unwrap().iter().filter(|finding| finding["code"] == "modbus.exceptions");
    found.map(|finding| finding["count"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_exception_in_the_overlap_makes_one_snapshot_suspect() {
    private_network();
    let (_dir, bus) = bus();
    let talk = Talk::begin();
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, talk.port)], &options(&json!({})));
    service.ready().await;
    let deadline = Instant::now() + PATIENCE;
    // The first of two that are open together has recorded a whole slot and is clean.
    let open = loop {
        let open = listed(&service, "open").await;
        if open.len() == 2 && !listed(&service, "temporary").await.is_empty() {
            break open;
        }
        assert!(Instant::now() < deadline, "no two are open together: {open:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    talk.except_once();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(listed(&service, "open").await, open, "it was in the time that both record");

    let (earlier, later) = (filed(&service, &open[0]).await, filed(&service, &open[1]).await);
    assert_eq!((&earlier["verdict"], exceptions(&earlier)), (&json!("suspect"), 1), "{earlier:#}");
    assert_eq!((&later["verdict"], exceptions(&later)), (&json!("clean"), 0), "{later:#}");
    let text = later["text"].as_str().unwrap();
    assert!(text.contains(&format!("1 finding of the overlap is told by {}", open[0])), "{text}");
    assert_eq!(service.get("/monitor").await["snapshots"]["suspect"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn filing_that_waits_for_the_disk_holds_back_no_verdict_and_no_trigger() {
    private_network();
    let (_dir, bus) = bus();
    let talk = Talk::begin();
    let more = json!({"snapshot_s": 1, "overlap_s": 0.2, "pre_s": 1, "post_s": 0});
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, talk.port)], &options(&more));
    service.ready().await;
    let deadline = Instant::now() + PATIENCE;
    let open = loop {
        if let Some(open) = listed(&service, "open").await.pop() {
            break open;
        }
        assert!(Instant::now() < deadline, "nothing is recorded");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    // Who opens a pipe to write waits for who reads it: so the pin is never written, like anything on a disk that does not answer.
    let note = service.dir.path().join(format!("state/monitor/open/{open}.pinned"));
    nix::unistd::mkfifo(&note, nix::sys::stat::Mode::S_IRWXU).unwrap();
    service.ask("set", &format!("/monitor/snapshots/{open}/pinned"), Some("true")).await;
    // These wait, and are more than the judged snapshots that may wait to be filed; a trigger waits for none of them.
    let other = loop {
        if let Some(other) = listed(&service, "open").await.into_iter().find(|other| *other != open) {
            break format!("/monitor/snapshots/{other}/pinned");
        }
        assert!(Instant::now() < deadline, "no other one is opened");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    for _ in 0..12 {
        service.ask("set", &other, Some("true")).await;
        service.ask("set", &other, Some("false")).await;
    }
    let triggered = service.ask("set", "/monitor/trigger", Some("true")).await["snapshot_id"].as_str().unwrap().to_owned();
    let judged = loop {
        let judged = listed(&service, "filing").await;
        if judged.len() >= 4 && judged.contains(&triggered) {
            break judged;
        }
        assert!(Instant::now() < deadline, "no verdict while the disk hangs: {judged:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for snapshot_id in &judged {
        let snapshot = service.get(&format!("/monitor/snapshots/{snapshot_id}")).await;
        assert_eq!((&snapshot["state"], &snapshot["verdict"]), (&json!("filing"), &json!("clean")), "{snapshot:#}");
    }
    assert!(judged.contains(&open));
    thread::spawn(move || std::fs::File::open(note).map(drop)).join().unwrap().unwrap();
    for snapshot_id in &judged {
        let snapshot = filed(&service, snapshot_id).await;
        assert_eq!(snapshot["pinned"], *snapshot_id == open, "{snapshot:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_triggers_is_told_the_snapshot_and_can_ask_for_it_at_once() {
    private_network();
    let (_dir, bus) = bus();
    let talk = Talk::begin();
    let more = json!({"snapshot_s": 86_400, "pre_s": 1, "post_s": 1});
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, talk.port)], &options(&more));
    service.ready().await;
    let deadline = Instant::now() + PATIENCE;
    while service.get("/monitor").await["state"] != "recording" {
        assert!(Instant::now() < deadline, "nothing is recorded");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut asker = Asker::connect(&service.socket, "/netdiag").await;
    // Two at one moment are two snapshots.
    let first = asker.ask("set", "/monitor/trigger", Some(r#"{"reason": "the inverter tripped"}"#)).await;
    let second = asker.ask("set", "/monitor/trigger", Some("true")).await;
    assert_eq!((&first["enabled"], &first["state"]), (&json!(true), &json!("recording")), "{first:#}");
    let [first, second] = [first, second].map(|accepted| {
        let snapshot_id = accepted["snapshot_id"].as_str().unwrap().to_owned();
        assert_eq!(accepted["uri"], format!("/netdiag/monitor/snapshots/{snapshot_id}"));
        snapshot_id
    });
    assert_ne!(first, second);
    let snapshot = asker.ask("get", &format!("/monitor/snapshots/{first}"), None).await;
    assert_eq!((&snapshot["state"], &snapshot["trigger"]), (&json!("open"), &json!("the inverter tripped")), "{snapshot:#}");
    for snapshot_id in [first, second] {
        let snapshot = filed(&service, &snapshot_id).await;
        assert!(snapshot["state"] == "archived" && snapshot["packets"].as_u64() > Some(50), "{snapshot:#}");
    }
}

/// Waits for a snapshot of the clock in which this is found.
async fn found(service: &Service, code: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for state in ["temporary", "archived"] {
            for snapshot_id in listed(service, state).await {
                let snapshot = service.get(&format!("/monitor/snapshots/{snapshot_id}")).await;
                let found = snapshot["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code);
                if let Some(found) = found {
                    return found.clone();
                }
            }
        }
        assert!(Instant::now() < deadline, "no {code}\n{}", service.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_falls_silent_while_netdiag_restarts_is_told() {
    private_network();
    let (_dir, bus) = bus();
    let talk = Talk::begin();
    let mut options = options(&json!({"snapshot_s": 2, "overlap_s": 0.5}));
    options.settings["silence_ms"] = json!(1000);
    let mut service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, talk.port)], &options);
    service.ready().await;
    let deadline = Instant::now() + PATIENCE;
    while listed(&service, "temporary").await.is_empty() {
        assert!(Instant::now() < deadline, "no clean snapshot");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    service.signal(Signal::SIGTERM);
    assert_eq!(service.wait(PATIENCE).await, Some(0));
    drop(talk);
    tokio::time::sleep(Duration::from_millis(200)).await;
    service.restart();
    service.ready().await;
    let silent = found(&service, "host.silent").await;
    assert!(silent["message"].as_str().unwrap().contains("there is no packet to or from it since"), "{silent:#}");
    assert!(silent["first_at"].is_string() && silent["endpoint_id"].is_string(), "{silent:#}");

    // What is damaged is told, and survived.
    service.signal(Signal::SIGTERM);
    assert_eq!(service.wait(PATIENCE).await, Some(0));
    let remembered = service.dir.path().join("state/monitor-heard.json");
    let before: Value = serde_json::from_slice(&std::fs::read(&remembered).unwrap()).unwrap();
    assert_eq!(before["endpoints"].as_object().unwrap().len(), 1, "{before:#}");
    std::fs::write(&remembered, &before.to_string()[..20]).unwrap();
    let mut events = bus.listen("/events").await;
    service.restart();
    service.ready().await;
    let told = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
    let told: Value = serde_json::from_slice(&told.body.unwrap()).unwrap();
    assert!(told["message"].as_str().unwrap().contains("monitor-heard.json"), "{told:#}");
    let deadline = Instant::now() + PATIENCE;
    while service.get("/monitor").await["state"] != "recording" {
        assert!(Instant::now() < deadline, "nothing is recorded");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
