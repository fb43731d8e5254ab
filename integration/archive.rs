//! The archive of the monitor: the real binary keeps the disk's room, tells before it files, and knows after a restart what it knew before.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use nix::sys::{signal::Signal, statvfs::statvfs};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    net::UdpSocket,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{
    disk::SmallDisk,
    private_network,
    service::{Options, Service, bus, modbus_client, validate},
};

const PATIENCE: Duration = Duration::from_secs(90);
const MIB: u64 = 1 << 20;

/// Short snapshots. The device never says a word, which is a finding that stays.
fn options(more: &Value) -> Options {
    let mut monitor = json!({
        "snapshot_s": 2, "overlap_s": 0.5, "min_free_bytes": MIB, "min_free_percent": 0, "interfaces": ["lo"], "pre_s": 0,
        "severity": "info",
    });
    monitor.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Options { settings: json!({"monitor": monitor, "monitor_enabled": true}), ..Options::default() }
}

fn silent_device() -> [(String, String); 1] {
    [modbus_client("bms", "127.0.0.2", 1502)]
}

async fn list(service: &Service, query: &Value) -> Value {
    let list = service.ask("get", "/monitor/snapshots", Some(&query.to_string())).await;
    validate("snapshot_list", &list);
    list
}

/// All filed ones, oldest first.
async fn filed(service: &Service) -> Vec<Value> {
    let all = list(service, &json!({"limit": 1000})).await;
    let is_filed = |one: &&Value| one["state"] == "temporary" || one["state"] == "archived";
    all["snapshots"].as_array().unwrap().iter().rev().filter(is_filed).cloned().collect()
}

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

fn free_bytes(disk: &Path) -> u64 {
    let disk = statvfs(disk).unwrap();
    disk.blocks_available() * disk.fragment_size()
}

/// What runs until it is dropped.
struct Running<T>(Arc<AtomicBool>, Option<thread::JoinHandle<T>>);

impl<T: Send + 'static> Running<T> {
    fn begin(work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ended);
        Self(ended, Some(thread::spawn(move || work(&over))))
    }

    fn end(mut self) -> T {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_netdiag_writes_never_crosses_the_floor_of_the_disk() {
    private_network();
    let (_dir, bus) = bus();
    let disk = SmallDisk::mount(40);
    let floor = 10 * MIB;
    let mut options = options(&json!({"min_free_bytes": floor, "filter": "udp", "repeat_s": 0, "neighbours": 0}));
    options.settings["state_dir"] = json!(disk.path().join("state"));
    let service = Service::start(&bus.socket, &silent_device(), &options);
    service.ready().await;
    let place = disk.path().to_owned();
    let least = Running::begin(move |ended| {
        let mut least = u64::MAX;
        while !ended.load(Ordering::Relaxed) {
            least = least.min(free_bytes(&place));
            thread::sleep(Duration::from_millis(1));
        }
        least
    });
    // Some 3 MB a second that cannot be compressed.
    let talk = Running::begin(|ended| {
        let (from, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        from.connect(to.local_addr().unwrap()).unwrap();
        let mut state = 1_u64;
        while !ended.load(Ordering::Relaxed) {
            let noise: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .take(1400)
            .collect();
            let _ = from.send(&noise);
            thread::sleep(Duration::from_micros(400));
        }
    });
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let monitor = service.get("/monitor").await;
        // Old ones made room for new ones.
        if monitor["snapshots"]["deleted"].as_u64() >= Some(6) {
            break;
        }
        assert!(Instant::now() < deadline, "{monitor:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    talk.end();
    let least = least.end();
    assert!(least >= floor, "{} bytes of the {floor} that are kept free were used", floor - least);
    assert!(least < floor + 8 * MIB, "the disk was never full: {least} bytes were free");
    assert!(filed(&service).await.iter().any(|snapshot| snapshot["state"] == "archived"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_is_known_after_a_restart() {
    private_network();
    let (_dir, bus) = bus();
    let mut service = Service::start(&bus.socket, &silent_device(), &options(&json!({"neighbours": 0})));
    service.ready().await;
    let known = |snapshots: &[Value]| {
        snapshots.iter().filter(|one| one["text"].as_str().is_some_and(|text| text.contains("archived before"))).count()
    };
    let before = wait_for(&service, "a known one", |snapshots| known(snapshots) >= 1).await;
    let archived = |snapshots: &[Value]| -> BTreeSet<String> {
        let archived = snapshots.iter().filter(|one| one["state"] == "archived");
        archived.map(|one| one["snapshot_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(archived(&before).len(), 1, "{before:#?}");
    service.signal(Signal::SIGTERM);
    assert_eq!(service.wait(PATIENCE).await, Some(0));
    service.restart();
    service.ready().await;
    let so_far = known(&before);
    let after = wait_for(&service, "more known ones", |snapshots| known(snapshots) >= so_far + 4).await;
    assert_eq!(archived(&after), archived(&before), "{after:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_is_told_before_its_snapshot_is_filed() {
    private_network();
    let (_dir, bus) = bus();
    let mut heard = bus.listen("/netdiag/monitor/snapshots").await;
    let service = Service::start(&bus.socket, &silent_device(), &options(&json!({})));
    service.ready().await;
    let mut told: Vec<Value> = Vec::new();
    let is_over = |told: &[Value]| told.iter().any(|one| one["state"] == "archived");
    let deadline = Instant::now() + PATIENCE;
    while !is_over(&told) {
        assert!(Instant::now() < deadline, "no snapshot is archived: {told:#?}");
        let message = tokio::time::timeout(PATIENCE, heard.recv()).await.expect("a snapshot is archived").unwrap();
        if message.method == "pub" {
            told.push(serde_json::from_slice(message.body.as_deref().unwrap()).unwrap());
        }
    }
    let id = told.last().unwrap()["snapshot_id"].clone();
    let of_it: Vec<&Value> = told.iter().filter(|one| one["snapshot_id"] == id).collect();
    let states: Vec<&str> = of_it.iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["open", "filing", "archived"]);
    let filing = of_it[1];
    assert_eq!(filing["verdict"], "suspect", "{filing:#}");
    assert!(!filing["findings"].as_array().unwrap().is_empty() && filing["closed_at"].is_string(), "{filing:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_of_what_is_being_recorded_outlives_a_kill() {
    private_network();
    let (_dir, bus) = bus();
    let mut service = Service::start(&bus.socket, &silent_device(), &options(&json!({"snapshot_s": 86_400, "filter": "udp"})));
    service.ready().await;
    let talk = Running::begin(|ended| {
        let (from, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        while !ended.load(Ordering::Relaxed) {
            let _ = from.send_to(&[7; 100], to.local_addr().unwrap());
            thread::sleep(Duration::from_millis(20));
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let open = loop {
        let open = list(&service, &json!({"state": "open"})).await["snapshots"][0].clone();
        if open["disk_bytes"].as_u64() > Some(3000) {
            break open["snapshot_id"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < deadline, "{open:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let pinned = service.ask("set", &format!("/monitor/snapshots/{open}/pinned"), Some("true")).await;
    assert_eq!(pinned["pinned"], true, "{pinned:#}");
    let note = service.dir.path().join(format!("state/monitor/open/{open}.pinned"));
    let recording = service.dir.path().join("state/monitor/open");
    let is_written = || {
        let mut files = fs::read_dir(&recording).unwrap().map(|file| file.unwrap());
        files.any(|file| file.path().extension().is_some_and(|end| end == "partial") && file.metadata().unwrap().len() > 1000)
    };
    while !note.exists() || !is_written() {
        assert!(Instant::now() < deadline, "the pin or the recording is not written down");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    service.signal(Signal::SIGKILL);
    service.wait(PATIENCE).await;
    service.restart();
    service.ready().await;
    let mended = wait_for(&service, "the mended one", |all| all.iter().any(|one| one["snapshot_id"] == *open)).await;
    let mended = mended.iter().find(|one| one["snapshot_id"] == *open).unwrap();
    assert_eq!((&mended["pinned"], &mended["kernel_dropped"]), (&json!(true), &Value::Null), "{mended:#}");
    assert!(!note.exists());
    talk.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_archive_is_listed_in_pages_that_can_be_sent() {
    private_network();
    let (dir, bus) = bus();
    let state = dir.path().join("state");
    let archive = state.join("monitor/archive");
    const COUNT: usize = 2500;
    let finding = json!({"code": "modbus.unanswered", "severity": "alarm", "count": 3, "first_at": null, "last_at": null,
        "endpoint_id": "a", "message": "3 requests were not answered", "packets": [1, 2, 3]});
    let name = |number: usize| format!("20250101T{number:06}.000Z");
    for number in 0..COUNT {
        let place = archive.join(name(number));
        fs::create_dir_all(&place).unwrap();
        let snapshot = json!({
            "snapshot_id": name(number), "state": "archived", "opened_at": "2025-01-01T00:00:00Z", "closed_at": "2025-01-01T00:05:00Z",
            "verdict": "suspect", "text": "t".repeat(300), "trigger": null, "file": null, "disk_bytes": 1000, "packets": 1,
            "kernel_dropped": 0, "interfaces": [], "findings": vec![finding.clone(); 20], "problem": null, "pinned": true,
        });
        fs::write(place.join("snapshot.json"), snapshot.to_string()).unwrap();
        fs::write(place.join("pinned"), "").unwrap();
    }
    let mut options = options(&json!({"snapshot_s": 86_400}));
    options.settings["state_dir"] = json!(state);
    let service = Service::start(&bus.socket, &silent_device(), &options);
    service.ready().await;
    wait_for(&service, "the archive to be read", |all| !all.is_empty()).await;
    let deadline = Instant::now() + PATIENCE;
    while service.get("/monitor").await["snapshots"]["archived"] != COUNT {
        assert!(Instant::now() < deadline, "not all is read");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut seen: Vec<String> = Vec::new();
    let mut query = json!({"limit": 1000, "state": "archived"});
    loop {
        let page = list(&service, &query).await;
        assert_eq!(page["total"], COUNT, "{page:#}");
        let all = page["snapshots"].as_array().unwrap();
        assert!(!all.is_empty());
        seen.extend(all.iter().map(|one| one["snapshot_id"].as_str().unwrap().to_owned()));
        query["before"] = page["next_before"].clone();
        if query["before"].is_null() {
            break;
        }
    }
    assert_eq!(seen, (0..COUNT).rev().map(name).collect::<Vec<_>>());
    let one = service.ask("get", &format!("/monitor/snapshots/{}", name(7)), None).await;
    assert_eq!((one["findings"].as_array().unwrap().len(), &one["pinned"]), (20, &json!(true)));
    for limit in [0, 1001] {
        let refused = service.ask("get", "/monitor/snapshots", Some(&json!({"limit": limit}).to_string())).await;
        assert_eq!(
            (&refused["error"]["code"], &refused["error"]["field"]),
            (&json!("bad_request"), &json!("limit")),
            "{refused:#}"
        );
    }
}
