//! The monitor as a whole: the real binary records a real conversation, tells the clean from the suspect, keeps what matters, and survives
//! what happens to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use netdiag::{
    api::UtcTime,
    fims::{self, ClientOptions, Message},
    lab::{Behaviour, DeviceSpec, Placement, PollSettings, SiteBuilder},
    packet::{Reader, decompressed},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    net::TcpListener,
    path::Path,
    time::{Duration, Instant, SystemTime},
};
use support::{
    disk::SmallDisk,
    private_network,
    service::{Listener, Options, Service, bus, connected, modbus_client, validate},
    talk::{DEVICE, Talk},
};

/// A machine that has much else to do takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short snapshots, so that the test is. No machine stalls for so long that it takes the device for slow.
fn options(more: &Value) -> Options {
    let mut monitor = json!({
        "snapshot_s": 2, "overlap_s": 1, "clean_retention_s": 3600, "min_free_bytes": 1 << 20, "interfaces": ["lo"], "pre_s": 2, "post_s": 1,
    });
    monitor.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let settings =
        json!({"monitor": monitor, "response_timeout_ms": 20_000, "slow_response_ms": 20_000, "slow_connect_ms": 20_000});
    Options { settings, ..Options::default() }
}

/// The same, and silence is noticed soon; so may be a hiccup of the machine.
fn quick_options(more: &Value) -> Options {
    let mut options = options(more);
    options.settings["response_timeout_ms"] = json!(500);
    options
}

/// All filed snapshots, oldest first, whole.
async fn filed(service: &Service) -> Vec<Value> {
    let list = service.get("/monitor/snapshots").await;
    let mut snapshots = Vec::new();
    for snapshot in list["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .filter(|snapshot| snapshot["state"] != "open" && snapshot["state"] != "filing")
    {
        let one = service.ask("get", &format!("/monitor/snapshots/{}", snapshot["snapshot_id"].as_str().unwrap()), None).await;
        snapshots.extend((!one["error"].is_object()).then_some(one));
    }
    snapshots
}

/// Waits until there are filed snapshots for which `enough` holds.
async fn wait_for(service: &Service, what: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let snapshots = filed(service).await;
        if enough(&snapshots) {
            return snapshots;
        }
        assert!(Instant::now() < deadline, "not in time: {what}; there are {snapshots:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn verdicts(snapshots: &[Value], verdict: &str) -> usize {
    snapshots.iter().filter(|snapshot| snapshot["verdict"] == verdict).count()
}

/// Every packet of a capture: when, and what.
fn packets(path: &Path) -> BTreeSet<(i64, Vec<u8>)> {
    let mut reader = Reader::new(decompressed(File::open(path).unwrap()).unwrap()).unwrap();
    let mut packets = BTreeSet::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        packets.insert((packet.unix_ns, packet.data.to_vec()));
    }
    assert!(reader.damage().is_none(), "{}", path.display());
    packets
}

fn file(snapshot: &Value) -> &Path {
    Path::new(snapshot["file"].as_str().unwrap_or_else(|| panic!("no file: {snapshot:#}")))
}

/// The transaction ids of the requests in a capture.
fn requests(packets: &BTreeSet<(i64, Vec<u8>)>, port: u16) -> BTreeSet<u16> {
    let asked = |bytes: &[u8]| {
        let tcp = bytes.get(14 + 20..)?;
        let payload = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
        (payload.len() == 12 && tcp[2..4] == port.to_be_bytes()).then(|| u16::from_be_bytes([payload[0], payload[1]]))
    };
    packets.iter().filter_map(|(_, bytes)| asked(bytes)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_snapshots_overlap_without_a_gap_and_a_fault_is_archived_once() {
    private_network();
    let (_dir, bus) = bus();
    let talk = Talk::begin();
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, talk.port)], &quick_options(&json!({})));
    service.ready().await;
    assert_eq!(service.get("/monitor").await["state"], "off");
    let mut events = bus.listen("/events").await;
    let mut told = bus.listen("/netdiag/monitor").await;
    let monitor = service.ask("set", "/summary/monitor_enabled", Some("true")).await;
    assert_eq!(monitor["enabled"], true);

    let snapshots = wait_for(&service, "four clean ones", |snapshots| verdicts(snapshots, "clean") >= 4).await;
    assert_eq!(service.get("/monitor").await["state"], "recording");
    assert_eq!(service.get("/summary").await["monitor_state"], "recording");
    assert_eq!(service.get("/status").await["state"], "ok");
    let captures: Vec<_> = snapshots.iter().map(|snapshot| packets(file(snapshot))).collect();
    let mut shared = Vec::new();
    for pair in captures.windows(2) {
        let (one, next) = (requests(&pair[0], talk.port), requests(&pair[1], talk.port));
        shared.push(pair[0].intersection(&pair[1]).count());
        let (first, last) = (*one.first().unwrap(), *next.last().unwrap());
        let missing: Vec<u16> = (first..=last).filter(|id| !one.contains(id) && !next.contains(id)).collect();
        assert!(missing.is_empty(), "lost at a seam: {missing:?}");
    }
    // All but where the machine stalled just then.
    assert!(shared.iter().filter(|count| **count > 20).count() >= 2, "packets of the overlap are in both files: {shared:?}");
    for snapshot in snapshots.iter().filter(|snapshot| snapshot["verdict"] == "clean") {
        let is_kept = snapshot["state"] == "temporary" || snapshot["neighbour_of"].is_string();
        assert!(is_kept && snapshot["kernel_dropped"] == 0, "{snapshot:#}");
    }

    talk.fall_silent();
    let is_unanswered = |snapshot: &&Value| finding(snapshot, "modbus.unanswered").is_some();
    let is_known = |snapshot: &Value| snapshot["text"].as_str().unwrap().ends_with("known, and archived before");
    let snapshots = wait_for(&service, "three without answers, the last one known", |snapshots| {
        let unanswered: Vec<&Value> = snapshots.iter().filter(is_unanswered).collect();
        unanswered.len() >= 3 && is_known(unanswered[unanswered.len() - 1])
    })
    .await;
    let suspect: Vec<&Value> = snapshots.iter().filter(is_unanswered).collect();
    assert!(suspect.iter().all(|snapshot| snapshot["verdict"] == "suspect"), "{suspect:#?}");
    let archived = suspect.iter().filter(|snapshot| snapshot["state"] == "archived" && snapshot["neighbour_of"].is_null()).count();
    // The first one, and the second if the silence was too short for all its codes in the first.
    assert!(archived < suspect.len(), "{suspect:#?}");
    let first = suspect[0];
    assert!(first["state"] == "archived" && !is_known(first), "{first:#}");
    let folder = file(first).parent().unwrap();
    assert!(file(first).ends_with("capture.pcapng.zst") && !packets(file(first)).is_empty());
    let analysis: Value = serde_json::from_slice(&fs::read(folder.join("analysis.json")).unwrap()).unwrap();
    validate("analysis_report", &analysis);
    assert_eq!(analysis["verdict"], "suspect");
    let context: Value = serde_json::from_slice(&fs::read(folder.join("context.json")).unwrap()).unwrap();
    validate("topology", &context["topology"]);
    event_with(&mut events, "is suspect").await;

    // Pinned it cannot be deleted, unpinned it can.
    let uri = format!("/monitor/snapshots/{}", first["snapshot_id"].as_str().unwrap());
    assert_eq!(service.ask("set", &format!("{uri}/pinned"), Some("true")).await["pinned"], true);
    holds(|| folder.join("pinned").exists(), "the pin").await;
    assert_eq!(service.ask("set", &format!("{uri}/delete"), Some("true")).await["error"]["code"], "forbidden");
    service.ask("set", &format!("{uri}/pinned"), Some("false")).await;
    holds(|| !folder.join("pinned").exists(), "the pin to be gone").await;
    service.ask("set", &format!("{uri}/delete"), Some("true")).await;
    holds(|| !folder.exists(), "the deletion").await;
    let deadline = Instant::now() + PATIENCE;
    while service.ask("get", &uri, None).await["error"]["code"] != "not_found" {
        assert!(Instant::now() < deadline, "deleted and still told of");
    }

    service.ask("set", "/monitor/enabled", Some("false")).await;
    in_state(&service, "off").await;
    let mut schemas = BTreeMap::new();
    while let Ok(Some(message)) = tokio::time::timeout(Duration::from_millis(200), told.recv()).await {
        if message.method == "pub" {
            let name = if message.uri.ends_with("/monitor") { "monitor" } else { "snapshot" };
            validate(name, &serde_json::from_slice(&message.body.unwrap()).unwrap());
            *schemas.entry(name).or_insert(0) += 1;
        }
    }
    assert!(schemas["monitor"] > 3 && schemas["snapshot"] > 8, "{schemas:?}");
}

/// Waits for an event that says this.
async fn event_with(events: &mut Listener, what: &str) -> Value {
    let told = async {
        loop {
            let event: Value = serde_json::from_slice(&events.recv().await.unwrap().body.unwrap()).unwrap();
            if event["message"].as_str().unwrap().contains(what) {
                return event;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("no event says `{what}`"))
}

async fn holds(mut condition: impl FnMut() -> bool, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn monitor_where(service: &Service, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let monitor = service.get("/monitor").await;
        if is_so(&monitor) {
            return monitor;
        }
        assert!(Instant::now() < deadline, "not in time: {what}; it is still {monitor:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn in_state(service: &Service, state: &str) -> Value {
    monitor_where(service, state, |monitor| monitor["state"] == state).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_on_again_after_a_stop_and_after_a_kill_and_loses_no_recording() {
    private_network();
    let (_dir, bus) = bus();
    let talk = Talk::begin();
    let mut service = Service::start(
        &bus.socket,
        &[modbus_client("bms", DEVICE, talk.port)],
        &options(&json!({"snapshot_s": 86_400, "post_s": 60})),
    );
    service.ready().await;
    service.ask("set", "/monitor/enabled", Some("true")).await;
    in_state(&service, "recording").await;
    let open = service.dir.path().join("state/monitor/open");
    // A hundred packets and more are on the disk of each.
    let recordings = || {
        let files = fs::read_dir(&open).unwrap().map(|entry| entry.unwrap().path());
        let recordings: Vec<u64> = files
            .filter(|path| path.extension().unwrap() == "partial")
            .map(|path| fs::metadata(path).map_or(0, |file| file.len()))
            .collect();
        recordings.iter().all(|bytes| *bytes > 12_000).then_some(recordings.len())
    };
    holds(|| recordings() == Some(1), "a recording").await;
    // A stop closes what is open as a valid, judged file.
    service.signal(Signal::SIGTERM);
    assert_eq!(service.wait(PATIENCE).await, Some(0));
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
    service.restart();
    service.ready().await;
    in_state(&service, "recording").await;
    let stopped = wait_for(&service, "the stopped one to be read", |snapshots| !snapshots.is_empty()).await;
    assert!(stopped.iter().all(|snapshot| snapshot["packets"].as_u64() > Some(50)), "{stopped:#?}");

    // A kill leaves a recording; the next start mends, judges and files it.
    holds(|| recordings() == Some(1), "another recording").await;
    service.ask("set", "/monitor/trigger", Some(r#"{"reason": "before the kill"}"#)).await;
    holds(|| recordings() == Some(2), "the continuous one, and the one that was triggered").await;
    service.signal(Signal::SIGKILL);
    service.wait(PATIENCE).await;
    let left = 2;
    service.restart();
    service.ready().await;
    let is_mended = |snapshot: &&Value| {
        snapshot["problem"].as_str().is_some_and(|problem| problem.contains("broke off while this was recorded"))
    };
    let snapshots = wait_for(&service, "the mended ones", |snapshots| snapshots.iter().filter(is_mended).count() == left).await;
    for snapshot in snapshots.iter().filter(is_mended) {
        let packets = packets(file(snapshot));
        assert!(packets.len() > 20 && snapshot["packets"] == packets.len(), "{} in {snapshot:#}", packets.len());
    }
    let triggered =
        snapshots.iter().find(|snapshot| snapshot["trigger"] == "before the kill").expect("its reason outlives the kill");
    assert_eq!((&triggered["state"], &triggered["verdict"]), (&json!("archived"), &json!("clean")), "{triggered:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flight_recorder_saves_what_was_before_a_message_of_another_process() {
    private_network();
    let (_dir, bus) = bus();
    let talk = Talk::begin();
    let rule = json!({"uri": "/components/bess_1", "key": "connected", "equals": false});
    let more = json!({"snapshot_s": 86_400, "triggers_per_hour": 2});
    let begun = Instant::now();
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, talk.port)], &options(&more));
    service.ready().await;
    service.ask("set", "/monitor/enabled", Some("true")).await;
    in_state(&service, "recording").await;
    // The rule comes while it runs: its uri is heard from now on.
    service.ask("set", "/monitor/settings", Some(&json!({"triggers": [rule]}).to_string())).await;
    let recorded = Instant::now();
    holds(|| recorded.elapsed() > Duration::from_millis(2500), "two seconds to remember").await;
    let (component, _incoming) = fims::connect(ClientOptions::new(bus.socket.clone(), "component".to_owned()));
    connected(&component).await;
    let say = |body: &str| {
        let message = Message { body: Some(body.as_bytes().to_vec()), ..Message::new("pub", "/components/bess_1") };
        component.send(message).unwrap();
    };
    say(r#"{"connected": true}"#);
    say(r#"{"connected": {"value": false}}"#);
    // A full minute may have ended a snapshot of the clock's, too.
    let is_triggered = |snapshot: &&Value| snapshot["trigger"].is_string();
    let snapshots = wait_for(&service, "the triggered one", |snapshots| snapshots.iter().any(|one| is_triggered(&one))).await;
    let saved = snapshots.iter().find(is_triggered).unwrap();
    assert_eq!((&saved["state"], &saved["trigger"]), (&json!("archived"), &json!("/components/bess_1: connected is false")));
    let time = |field: &str| serde_json::from_value::<UtcTime>(saved[field].clone()).unwrap().unix_ns();
    let (opened, closed) = (time("opened_at"), time("closed_at"));
    let length = Duration::from_nanos(u64::try_from(closed - opened).unwrap());
    assert!(length > Duration::from_millis(2900) && length < begun.elapsed(), "two seconds before and one after are {length:?}");
    let saved = packets(file(saved));
    // By hand, and then no more: two within an hour are allowed.
    service.ask("set", "/monitor/trigger", Some(r#"{"reason": "a look by hand"}"#)).await;
    wait_for(&service, "the one by hand", |snapshots| snapshots.iter().any(|one| one["trigger"] == "a look by hand")).await;
    let refused = service.ask("set", "/monitor/trigger", Some("true")).await;
    let message = refused["error"]["message"].as_str().unwrap_or_else(|| panic!("followed: {refused:#}"));
    assert!(refused["error"]["code"] == "busy" && message.contains("2 are followed"), "{refused:#}");
    // Who triggers by a rule hears no answer: it is a problem, and an alarm.
    let mut events = bus.listen("/events").await;
    say(r#"{"connected": true}"#);
    say(r#"{"connected": false}"#);
    let not_followed = "a trigger was not followed (/components/bess_1: connected is false): there were too many";
    let event = event_with(&mut events, not_followed).await;
    assert!(event["severity"] == 3 && event["message"].as_str().unwrap().starts_with(not_followed), "{event:#}");
    monitor_where(&service, "the problem", |monitor| {
        monitor["last_problem"].as_str().is_some_and(|problem| problem.starts_with(not_followed))
    })
    .await;
    assert_eq!(filed(&service).await.iter().filter(is_triggered).count(), 2);
    let long = json!({"reason": "x".repeat(201)}).to_string();
    let refused = service.ask("set", "/monitor/trigger", Some(&long)).await;
    assert_eq!((&refused["error"]["code"], &refused["error"]["field"]), (&json!("bad_request"), &json!("reason")));

    // The snapshots of the clock have all that came; the one that was saved has what came in its time.
    service.ask("set", "/monitor/enabled", Some("false")).await;
    let is_continuous = |snapshot: &&Value| snapshot["trigger"].is_null();
    let snapshots = wait_for(&service, "the continuous one", |snapshots| snapshots.iter().any(|one| is_continuous(&one))).await;
    let all: BTreeSet<_> = snapshots.iter().filter(is_continuous).flat_map(|snapshot| packets(file(snapshot))).collect();
    let (first, last) = (saved.first().unwrap(), saved.last().unwrap());
    let lost: Vec<_> = all.range(first..last).filter(|packet| !saved.contains(packet)).collect();
    assert!(lost.is_empty() && saved.is_subset(&all) && saved.len() < all.len(), "{} of {}: {lost:?}", saved.len(), all.len());
    // It was triggered two seconds after `opened_at`; a machine that stalls just then reads some packets later.
    let ms = |packet: &(i64, Vec<u8>)| (packet.0 - opened) / 1_000_000;
    assert!((-2000..1500).contains(&ms(first)) && ms(last) > 2000, "from {} to {} ms", ms(first), ms(last));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_are_refused_and_nothing_changes() {
    private_network();
    let (_dir, bus) = bus();
    let talk = Talk::begin();
    let more = json!({"snapshot_s": 86_400});
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, talk.port)], &options(&more));
    service.ready().await;
    service.ask("set", "/monitor/enabled", Some("true")).await;
    let before = in_state(&service, "recording").await;
    for (changes, field, says) in [
        (json!({"filter": "this is no ( filter", "pre_s": 7}), "filter", "does not compile"),
        (json!({"interfaces": [""]}), "interfaces[0]", "1 to 15 bytes"),
        (json!({"interfaces": ["lo", "lo"]}), "interfaces[1]", "twice"),
        (json!({"ignore": [{"code": "modbus.exeptions"}]}), "ignore", "modbus.exeptions"),
    ] {
        let refused = service.ask("set", "/monitor/settings", Some(&changes.to_string())).await;
        assert_eq!((&refused["error"]["code"], &refused["error"]["field"]), (&json!("bad_request"), &json!(field)), "{refused:#}");
        assert!(refused["error"]["message"].as_str().unwrap().contains(says), "{refused:#}");
    }
    let accepted = service.ask("set", "/monitor/settings/filter", Some(r#"{"value": "tcp"}"#)).await;
    assert_eq!(accepted["settings"]["filter"], "tcp", "{accepted:#}");
    service.ask("set", "/monitor/settings/filter", Some(r#"{"value": ""}"#)).await;
    let after = service.get("/monitor").await;
    assert_eq!((&after["settings"], &after["state"]), (&before["settings"], &json!("recording")));
    // An interface that is not there is waited for, and told; when it is not wanted any more, nothing is wrong.
    service.ask("set", "/monitor/settings", Some(r#"{"interfaces": ["lo", "nope0"]}"#)).await;
    let is_told =
        |monitor: &Value| monitor["last_problem"].as_str().is_some_and(|problem| problem.contains("nope0 is not recorded"));
    let problem = async |wanted: bool| monitor_where(&service, "nope0", |monitor| is_told(monitor) == wanted).await;
    problem(true).await;
    service.ask("set", "/monitor/settings", Some(r#"{"interfaces": ["lo"]}"#)).await;
    assert_eq!(problem(false).await["last_problem"], Value::Null);
}

fn finding<'a>(snapshot: &'a Value, code: &str) -> Option<&'a Value> {
    snapshot["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_falls_silent_over_a_seam_is_told_in_the_snapshots_after() {
    private_network();
    let (_dir, bus) = bus();
    let talk = Talk::begin();
    let mut options = options(&json!({"triggers": [{"finding": "host.silent"}]}));
    options.settings["silence_ms"] = json!(1000);
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, talk.port)], &options);
    service.ready().await;
    service.ask("set", "/monitor/enabled", Some("true")).await;
    wait_for(&service, "two clean ones", |snapshots| verdicts(snapshots, "clean") >= 2).await;
    // Both ends are gone: nobody asks any more, and there is nothing to be found in what is recorded.
    drop(talk);
    let is_triggered = |snapshot: &&Value| snapshot["trigger"].is_string();
    let is_empty = |snapshot: &&Value| snapshot["packets"] == 0 && snapshot["trigger"].is_null();
    let snapshots = wait_for(&service, "two without a packet, and one that was triggered", |snapshots| {
        snapshots.iter().filter(is_empty).count() >= 2 && snapshots.iter().any(|one| is_triggered(&one))
    })
    .await;
    let silent: Vec<&Value> = snapshots.iter().filter(is_empty).collect();
    for snapshot in &silent {
        let told = finding(snapshot, "host.silent").unwrap_or_else(|| panic!("{snapshot:#}"));
        assert!(told["message"].as_str().unwrap().contains(" talked until 20"), "{told:#}");
        assert_eq!((&snapshot["verdict"], &told["severity"]), (&json!("suspect"), &json!("warning")), "{snapshot:#}");
        assert!(told["endpoint_id"].as_str().unwrap().starts_with("modbus_127.0.0.2_"), "{told:#}");
    }
    assert!(silent[1]["text"].as_str().unwrap().ends_with("known, and archived before"), "{:#}", silent[1]);
    // It is archived beside the first one, and not for its own sake.
    assert!(silent[1]["state"] == "temporary" || silent[1]["neighbour_of"].is_string(), "{:#}", silent[1]);
    // That a device is silent is known when the snapshot is closed, and triggers then: once.
    let triggered: Vec<&Value> = snapshots.iter().filter(is_triggered).collect();
    assert!(triggered.len() == 1 && triggered[0]["trigger"].as_str().unwrap().starts_with("host.silent: "), "{triggered:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_that_change_cut_no_triggered_snapshot_short_and_leave_the_memory_whole() {
    private_network();
    let (_dir, bus) = bus();
    let (talk, other) = (Talk::begin(), Talk::begin());
    let more = json!({"snapshot_s": 86_400, "pre_s": 300, "post_s": 4, "interfaces": []});
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, talk.port)], &options(&more));
    service.ready().await;
    service.ask("set", "/monitor/enabled", Some("true")).await;
    in_state(&service, "recording").await;
    tokio::time::sleep(Duration::from_millis(2000)).await;
    let triggered = UtcTime::from(SystemTime::now()).unix_ns();
    service.ask("set", "/monitor/trigger", Some(r#"{"reason": "before"}"#)).await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let (path, text) = modbus_client("meter", DEVICE, other.port);
    fs::write(service.dir.path().join("config").join(path), text).unwrap();
    service.ask("set", "/topology/rescan", Some("true")).await;
    let saved = async |reason: &'static str| {
        let is_it = |one: &&Value| one["trigger"] == reason;
        let snapshots = wait_for(&service, reason, |snapshots| snapshots.iter().any(|one| is_it(&one))).await;
        packets(file(snapshots.iter().find(is_it).unwrap()))
    };
    let before = saved("before").await;
    let (first, last) = (before.first().unwrap().0, before.last().unwrap().0);
    assert!(first < triggered && last > triggered + 3_000_000_000, "from {first} to {last}, triggered at {triggered}");
    service.ask("set", "/monitor/trigger", Some(r#"{"reason": "after"}"#)).await;
    let after = saved("after").await;
    let asked = |packets: &BTreeSet<(i64, Vec<u8>)>| (requests(packets, talk.port), requests(packets, other.port));
    // It goes back to where the one before did, and has in it all that came since.
    let (of_device, of_other) = asked(&after);
    let missing: Vec<u16> =
        (*asked(&before).0.first().unwrap()..*of_device.last().unwrap()).filter(|id| !of_device.contains(id)).collect();
    assert!(missing.is_empty() && asked(&before).0.is_subset(&of_device), "{missing:?}");
    assert!(of_other.len() > 20, "{of_other:?}");
    // More memory, and less: neither begins anew.
    service.ask("set", "/monitor/settings", Some(r#"{"pre_s": 600}"#)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    service.ask("set", "/monitor/trigger", Some(r#"{"reason": "longer"}"#)).await;
    let longer = saved("longer").await;
    assert!(after.is_subset(&longer) && longer.last().unwrap().0 > after.last().unwrap().0 + 2_000_000_000);
    // The snapshots of the clock gave way to such as know the new endpoint; none takes it for a stranger.
    let snapshots = filed(&service).await;
    let continuous: Vec<&Value> = snapshots.iter().filter(|one| one["trigger"].is_null()).collect();
    assert!(!continuous.is_empty() && continuous.iter().all(|one| one["verdict"] == "clean"), "{continuous:#?}");
}

/// The interfaces come from the topology, and the only one is lost.
#[test]
fn a_link_that_is_lost_ends_neither_the_recording_nor_the_memory_and_is_told() {
    private_network();
    let polling = PollSettings {
        period: Duration::from_millis(20),
        timeout: Duration::from_millis(500),
        reconnect_after: Duration::from_millis(200),
    };
    let device = DeviceSpec::modbus("bms", Behaviour::Healthy).with_session();
    let site = SiteBuilder::new(Placement::Namespaces).device(device).polling(polling).build().unwrap();
    assert!(site.wait_for_sessions(Duration::from_secs(10)));
    let ip = |arguments: &str| {
        let status = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (_dir, bus) = bus();
        let mut options = options(&json!({"interfaces": [], "snapshot_s": 4, "pre_s": 60, "post_s": 1}));
        options.settings["topology_check_s"] = json!(1);
        let service = Service::start_on_site(&bus.socket, &site, &options);
        service.ready().await;
        service.ask("set", "/monitor/enabled", Some("true")).await;
        in_state(&service, "recording").await;
        wait_for(&service, "a clean one", |snapshots| verdicts(snapshots, "clean") >= 1).await;
        let received = |monitor: &Value| monitor["interfaces"][0]["received"].as_u64().unwrap();
        let before = received(&service.get("/monitor").await);

        ip("link set eth0 down");
        let down = Instant::now();
        in_state(&service, "paused").await;
        // The configs are looked at several times, and nothing leads to the device any more.
        while down.elapsed() < Duration::from_millis(3500) {
            let monitor = service.get("/monitor").await;
            assert_eq!(monitor["state"], "paused", "{monitor:#}");
            assert_eq!((&monitor["interfaces"][0]["name"], &monitor["interfaces"][0]["captured"]), (&json!("eth0"), &json!(false)));
            let problem = monitor["last_problem"].as_str().unwrap();
            assert!(problem.starts_with("eth0 is not recorded: ") && problem.contains("down"), "{problem}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let status = service.get("/status").await;
        assert!(status["problems"].to_string().contains("eth0"), "{status:#}");
        let accepted = service.ask("set", "/monitor/trigger", Some(r#"{"reason": "the link is lost"}"#)).await;
        assert!(accepted["error"].is_null(), "{accepted:#}");
        let is_saved = |snapshot: &&Value| snapshot["trigger"] == "the link is lost";
        let snapshots = wait_for(&service, "the triggered one", |snapshots| snapshots.iter().any(|one| is_saved(&one))).await;
        let saved = snapshots.iter().find(is_saved).unwrap();
        assert!(packets(file(saved)).len() > 30, "what was before the link was lost is in it: {saved:#}");
        assert!(saved["verdict"] == "suspect" && finding(saved, "capture.interface_lost").is_some(), "{saved:#}");

        ip("link set eth0 up");
        let up = Instant::now();
        let monitor = in_state(&service, "recording").await;
        println!("recorded again {:?} after the link is up", up.elapsed());
        assert!(received(&monitor) >= before, "it is the same capture: {monitor:#}");
        assert_eq!(monitor["interfaces"][0]["problem"], Value::Null, "nothing is wrong with it now");
        let snapshots = wait_for(&service, "a clean one afterwards", |snapshots| {
            let last = snapshots.iter().rev().find(|one| one["trigger"].is_null());
            last.is_some_and(|one| one["verdict"] == "clean" && one["packets"].as_u64() > Some(20))
                && verdicts(snapshots, "suspect") >= 2
        })
        .await;
        let lost: Vec<&Value> = snapshots.iter().filter(|one| finding(one, "capture.interface_lost").is_some()).collect();
        for snapshot in &lost {
            let message = finding(snapshot, "capture.interface_lost").unwrap()["message"].as_str().unwrap();
            assert!(message.starts_with("eth0: not recorded for "), "{message}");
            assert_eq!(snapshot["verdict"], "suspect");
        }
        let continuous = |one: &&&Value| one["trigger"].is_null();
        assert!(lost.iter().filter(continuous).any(|one| one["state"] == "archived"), "{lost:#?}");
        assert!(monitor["last_problem"].is_null() || !service.get("/monitor").await["last_problem"].to_string().contains("eth0"));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_pauses_the_monitor_and_room_lets_it_go_on() {
    private_network();
    let (_dir, bus) = bus();
    let talk = Talk::begin();
    let disk = SmallDisk::mount(24);
    let mut options = options(&json!({"min_free_bytes": 8 << 20, "snapshot_max_bytes": 4 << 20}));
    options.settings["state_dir"] = json!(disk.path().join("state"));
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, talk.port)], &options);
    service.ready().await;
    service.ask("set", "/monitor/enabled", Some("true")).await;
    wait_for(&service, "a clean one", |snapshots| !snapshots.is_empty()).await;
    // Somebody else fills the disk beyond the floor.
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 18 << 20]).unwrap();
    let monitor = in_state(&service, "paused").await;
    assert!(monitor["last_problem"].as_str().unwrap().contains("bytes of disk are free"), "{monitor:#}");
    assert_eq!(service.get("/status").await["state"], "degraded");
    wait_for(&service, "clean ones to go, but the newest", |snapshots| snapshots.len() <= 1).await;
    fs::remove_file(&ballast).unwrap();
    in_state(&service, "recording").await;
    wait_for(&service, "another clean one", |snapshots| snapshots.len() > 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_goes_and_comes_back_is_told_and_recorded_again() {
    private_network();
    let (_dir, bus) = bus();
    let link = |args: &[&str]| {
        let status = std::process::Command::new("ip").args(args).status().unwrap();
        assert!(status.success(), "ip {args:?}");
    };
    link(&["link", "add", "mon0", "type", "veth", "peer", "name", "mon1"]);
    link(&["link", "set", "mon0", "up"]);
    link(&["link", "set", "mon1", "up"]);
    let talk = Talk::begin();
    let more = json!({"interfaces": ["lo", "mon0"]});
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, talk.port)], &options(&more));
    service.ready().await;
    service.ask("set", "/monitor/enabled", Some("true")).await;
    in_state(&service, "recording").await;
    let captured = |monitor: &Value, name: &str| {
        let interfaces = monitor["interfaces"].as_array().unwrap();
        interfaces.iter().find(|one| one["name"] == name).is_some_and(|one| one["captured"] == true)
    };
    let wait = async |wanted: bool| monitor_where(&service, "mon0", |monitor| captured(monitor, "mon0") == wanted).await;
    wait(true).await;
    link(&["link", "del", "mon0"]);
    let monitor = wait(false).await;
    assert_eq!((&monitor["state"], captured(&monitor, "lo")), (&json!("recording"), true), "the other goes on");
    assert!(monitor["last_problem"].as_str().unwrap().contains("mon0"), "{monitor:#}");
    link(&["link", "add", "mon0", "type", "veth", "peer", "name", "mon1"]);
    link(&["link", "set", "mon0", "up"]);
    wait(true).await;
    wait_for(&service, "a snapshot after all that", |snapshots| snapshots.iter().any(|one| one["packets"].as_u64() > Some(20)))
        .await;
}

/// How many packet sockets there are in the network of this test.
fn packet_sockets(service: &Service) -> usize {
    let table = fs::read_to_string(format!("/proc/{}/net/packet", service.child.id())).unwrap();
    table.lines().skip(1).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connectivity_test_shares_the_recording_where_that_has_all_of_it() {
    private_network();
    let (_dir, bus) = bus();
    let talk = Talk::begin();
    let more = json!({"interfaces": []});
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, talk.port)], &options(&more));
    service.ready().await;
    let test = async |body: &str| {
        let job_id = service.start_test(body).await;
        let mut most = 0;
        loop {
            most = most.max(packet_sockets(&service));
            let job = service.get(&format!("/jobs/{job_id}")).await;
            if job["finished_at"].is_string() {
                return (most, service.get(&format!("/jobs/{job_id}/result")).await);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let body = r#"{"settle_ms": 2000, "ping": false}"#;
    let (alone, apart) = test(body).await;
    assert_eq!((alone, &apart["complete"]), (1, &json!(true)), "{apart:#}");

    service.ask("set", "/monitor/enabled", Some("true")).await;
    in_state(&service, "recording").await;
    assert_eq!(packet_sockets(&service), 1);
    let (together, shared) = test(body).await;
    assert_eq!(together, 1, "one recording for both");
    // What the test says is what it said with a recording of its own, and its file is as whole.
    assert_eq!(shared["endpoints"][0]["verdict"], apart["endpoints"][0]["verdict"], "{shared:#}");
    assert_eq!(shared["endpoints"][0]["reason"], apart["endpoints"][0]["reason"]);
    assert_eq!(shared["capture"]["problem"], Value::Null, "{:#}", shared["capture"]);
    assert_eq!(shared["capture"]["interfaces"][0]["name"], "lo");
    let asked = |result: &Value| requests(&packets(Path::new(result["capture"]["file"].as_str().unwrap())), talk.port).len();
    assert!(asked(&shared) > 20 && asked(&apart) > 20, "{} and {}", asked(&shared), asked(&apart));

    // An endpoint that the monitor does not record is recorded apart.
    let other = TcpListener::bind((DEVICE, 0)).unwrap();
    let port = other.local_addr().unwrap().port();
    let extra = json!({"settle_ms": 500, "ping": false, "extra": [{"protocol": "tcp", "address": DEVICE, "port": port}]});
    let (both, result) = test(&extra.to_string()).await;
    assert_eq!(both, 2, "{result:#}");

    // The monitor may end while a test goes on: what they share goes on for the test.
    let job_id = service.start_test(r#"{"settle_ms": 6000, "ping": false}"#).await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    service.ask("set", "/monitor/enabled", Some("false")).await;
    in_state(&service, "off").await;
    let off = UtcTime::from(SystemTime::now()).unix_ns();
    assert_eq!(packet_sockets(&service), 1);
    service.job_in(&job_id, &["succeeded"], PATIENCE).await;
    let result = service.get(&format!("/jobs/{job_id}/result")).await;
    let last = packets(Path::new(result["capture"]["file"].as_str().unwrap())).last().unwrap().0;
    assert!(asked(&result) > 80 && last > off, "{} requests, {:#}", asked(&result), result["capture"]);
    holds(|| packet_sockets(&service) == 0, "the capture to end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_triggers_once_and_a_suspect_snapshot_keeps_its_neighbours() {
    private_network();
    let (_dir, bus) = bus();
    let talk = Talk::begin();
    let rule = json!({"finding": "modbus.unanswered"});
    let more = json!({"triggers": [rule], "neighbours": 2, "snapshot_s": 1.5, "overlap_s": 0.5});
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, talk.port)], &quick_options(&more));
    service.ready().await;
    service.ask("set", "/monitor/enabled", Some("true")).await;
    wait_for(&service, "four clean ones", |snapshots| verdicts(snapshots, "clean") >= 4).await;
    talk.fall_silent();
    // What is found first may be a hiccup of the machine: only the first one with this finding is meant.
    let is_suspect = |snapshot: &Value| snapshot["trigger"].is_null() && finding(snapshot, "modbus.unanswered").is_some();
    let is_triggered = |snapshot: &&Value| snapshot["trigger"].is_string();
    let is_kept = |one: &Value| one["state"] == "archived" && one["neighbour_of"].is_null();
    let snapshots = wait_for(&service, "one that was triggered, a suspect one, and three after it", |snapshots| {
        let (triggered, continuous): (Vec<&Value>, Vec<&Value>) = snapshots.iter().partition(is_triggered);
        let last = continuous.iter().rposition(|one| is_kept(one));
        !triggered.is_empty()
            && continuous.iter().any(|one| is_suspect(one))
            && last.is_some_and(|last| continuous.len() > last + 3)
    })
    .await;
    let (triggered, continuous): (Vec<&Value>, Vec<&Value>) = snapshots.iter().partition(is_triggered);
    assert_eq!(triggered.len(), 1, "one finding that stays triggers once: {triggered:#?}");
    let reason = triggered[0]["trigger"].as_str().unwrap();
    assert!(reason.starts_with("modbus.unanswered: ") && reason.contains("request"), "{reason}");
    let states: Vec<_> = continuous.iter().map(|one| (&one["state"], &one["neighbour_of"], &one["text"])).collect();
    let first = continuous.iter().position(|one| is_suspect(one)).unwrap();
    assert!(is_kept(continuous[first]), "{states:#?}");
    // Two before it, and two after the last one that is archived for itself.
    let before = first.saturating_sub(2)..first;
    assert!(continuous[before.clone()].iter().all(|one| one["state"] == "archived"), "{states:#?}");
    let last = continuous.iter().rposition(|one| is_kept(one)).unwrap();
    for neighbour in &continuous[last + 1..last + 3] {
        let archived = (&neighbour["state"], &neighbour["neighbour_of"]);
        assert_eq!(archived, (&json!("archived"), &continuous[last]["snapshot_id"]), "{states:#?}");
    }
    assert!(continuous[last + 3..].iter().all(|one| one["state"] == "temporary"), "{states:#?}");
    // Where the machine had no hiccup, those before are all clean, and no more of them is kept.
    if continuous[..first].iter().all(|one| one["verdict"] == "clean") {
        assert!(continuous[..before.start].iter().all(|one| one["state"] == "temporary"), "{states:#?}");
        for neighbour in &continuous[before] {
            assert_eq!(neighbour["neighbour_of"], continuous[first]["snapshot_id"], "{states:#?}");
            let folder = file(neighbour).parent().unwrap();
            assert!(folder.parent().unwrap().ends_with("archive") && folder.join("context.json").is_file());
            assert!(!requests(&packets(file(neighbour)), talk.port).is_empty());
            assert_eq!(fs::read_dir(folder).unwrap().count(), 4);
        }
    }
}
