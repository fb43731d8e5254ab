//! Archived snapshots on their way to a historian: the real binary, and real stores (S3, WebDAV) that are away, late, wrongly addressed,
//! or hang.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use netdiag::archive::historian::{Parcel, SinkKind, SinkSettings, sink};
use nix::sys::signal::Signal;
use object_store::{Certificate, ClientOptions, GetResult, ObjectStoreExt as _, aws::AmazonS3Builder};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    net::TcpListener,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use support::{
    disk::SmallDisk,
    peers::Peers,
    private_network,
    service::{Bus, Listener, Options, Service, bus, modbus_client},
    stores::{Authority, Store},
    talk::{DEVICE, Talk},
};

const PATIENCE: Duration = Duration::from_secs(90);

/// An object of the bucket `site`.
async fn object(port: u16, place: &str) -> GetResult {
    object_at(AmazonS3Builder::new().with_endpoint(format!("http://127.0.0.1:{port}")).with_allow_http(true), place).await
}

async fn object_at(store: AmazonS3Builder, place: &str) -> GetResult {
    let store = store.with_bucket_name("site").with_access_key_id("plant").with_secret_access_key("hunter2").build();
    store.unwrap().get(&place.into()).await.unwrap()
}

/// A service that records and has these sinks; it archives what it is told to.
async fn service(bus: &Bus, sinks: &Value) -> Service {
    service_on(None, 1 << 20, bus, sinks).await
}

/// The same with its state in a directory of the test's, and a disk floor.
async fn service_on(state_dir: Option<&Path>, min_free_bytes: u64, bus: &Bus, sinks: &Value) -> Service {
    let monitor = json!({
        "snapshot_s": 60, "min_free_bytes": min_free_bytes, "min_free_percent": 0, "interfaces": ["lo"], "pre_s": 1, "post_s": 0,
        "triggers_per_hour": 100,
    });
    let mut settings = json!({"monitor": monitor, "monitor_enabled": true, "series": {"period_s": 0}, "sinks": sinks});
    if let Some(state_dir) = state_dir {
        settings["state_dir"] = json!(state_dir);
    }
    let port = Talk::begin().for_ever();
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, port)], &Options { settings, ..Options::default() });
    service.ready().await;
    monitor_where(&service, "it records", |monitor| monitor["state"] == "recording").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    service
}

async fn monitor_where(service: &Service, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let monitor = service.get("/monitor").await;
        if holds(&monitor) {
            return monitor;
        }
        assert!(Instant::now() < deadline, "not in time: {what}; {monitor:#}\n{}", service.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn sink_of<'a>(monitor: &'a Value, name: &str) -> &'a Value {
    monitor["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == name).unwrap()
}

/// Has a snapshot archived, and gives its name.
async fn archive_one(service: &Service) -> String {
    let known = archived(service).await;
    service.ask("set", "/monitor/trigger", Some("true")).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(new) = archived(service).await.into_iter().find(|id| !known.contains(id)) {
            return new;
        }
        assert!(Instant::now() < deadline, "nothing was archived:\n{}", service.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn archived(service: &Service) -> Vec<String> {
    let list = service.get("/monitor/snapshots").await;
    let archived = list["snapshots"].as_array().unwrap().iter().filter(|snapshot| snapshot["state"] == "archived");
    archived.map(|snapshot| snapshot["snapshot_id"].as_str().unwrap().to_owned()).collect()
}

fn members(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (path, bytes)
    });
    entries.collect()
}

/// What the archive holds of a snapshot.
fn in_archive(service: &Service, id: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = service.dir.path().join("state/monitor/archive").join(id);
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .filter(|(name, _)| !name.starts_with("shipped-to-"))
        .map(|(name, path)| (format!("{id}/{name}"), fs::read(path).unwrap()))
        .collect()
}

fn file_name(id: &str) -> String {
    format!("{}_{id}.tar", nix::unistd::gethostname().unwrap().into_string().unwrap())
}

// On one thread: the others would not be in the private network.
#[tokio::test]
async fn what_waits_for_stores_that_are_away_arrives_whole_and_in_order_when_they_come() {
    let Some(peers) = Peers::find() else { return };
    private_network();
    let (dir, bus) = bus();
    let keys = dir.path().join("keys");
    fs::write(&keys, "aws_access_key_id = plant\naws_secret_access_key = hunter2\n").unwrap();
    fs::write(dir.path().join("password"), "hunter2\n").unwrap();
    let spool = dir.path().join("spool");
    let sinks = json!([
        {"name": "store", "kind": "s3", "url": "http://127.0.0.1:19001", "bucket": "site", "prefix": "north/bess", "credentials_file": keys},
        {"name": "dav", "kind": "http", "url": "http://127.0.0.1:19002/netdiag", "username": "plant", "password_file": dir.path().join("password")},
        {"name": "spool", "kind": "directory", "path": spool, "min_free_bytes": 0},
    ]);
    let mut service = service(&bus, &sinks).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(archive_one(&service).await);
    }
    let all_wait = |monitor: &Value| {
        let waits = |sink: &Value| sink["queued"] == 3 && sink["state"] == "waiting" && sink["last_problem"].is_string();
        monitor["sinks"].as_array().unwrap().iter().all(waits)
    };
    let monitor = monitor_where(&service, "all sinks wait", all_wait).await;
    let problem = |name| sink_of(&monitor, name)["last_problem"].as_str().unwrap();
    assert!(
        problem("spool").contains("mount") && problem("dav").contains("refused") && problem("store").contains("refused"),
        "{monitor:#}"
    );

    // Nothing is lost when it is killed.
    service.signal(Signal::SIGKILL);
    service.wait(PATIENCE).await;
    service.restart();
    service.ready().await;
    monitor_where(&service, "all sinks wait again", all_wait).await;
    // Nor when the archive lets go of it.
    let gone = in_archive(&service, &sent[0]);
    service.ask("set", &format!("/monitor/snapshots/{}/delete", sent[0]), Some("true")).await;

    let _s3 = Store::s3(&peers, 19001, None, false).await;
    let _dav = Store::dav(&peers, 19002, None, dir.path());
    fs::create_dir(&spool).unwrap();
    for name in ["store", "dav", "spool"] {
        service.ask("set", &format!("/monitor/sinks/{name}/retry"), Some("true")).await;
    }
    let all_sent = |monitor: &Value| {
        monitor["sinks"].as_array().unwrap().iter().all(|sink| sink["sent"] == 3 && sink["queued"] == 0 && sink["state"] == "idle")
    };
    let monitor = monitor_where(&service, "all is sent", all_sent).await;
    for sink in monitor["sinks"].as_array().unwrap() {
        assert!(sink["last_problem"].is_null() && sink["dropped"] == 0 && sink["sent_bytes"].as_u64() > Some(3000), "{sink:#}");
    }
    let mut times = Vec::new();
    for (index, id) in sent.iter().enumerate() {
        let expected = if index == 0 { gone.clone() } else { in_archive(&service, id) };
        assert_eq!(expected.len(), 4, "{:?}", expected.keys());
        let (file, in_dav) = (spool.join(file_name(id)), dir.path().join("dav/netdiag").join(file_name(id)));
        assert!(members(&fs::read(&file).unwrap()) == expected, "{id} in the directory");
        assert!(members(&fs::read(in_dav).unwrap()) == expected, "{id} by http");
        let object = object(19001, &format!("north/bess/{}", file_name(id))).await;
        assert!(members(&object.bytes().await.unwrap()) == expected, "{id} in the store");
        times.push(fs::metadata(file).unwrap().modified().unwrap());
        if index > 0 {
            let snapshot = service.get(&format!("/monitor/snapshots/{id}")).await;
            let mut sinks: Vec<&str> =
                snapshot["shipped_to"].as_array().unwrap().iter().map(|sink| sink.as_str().unwrap()).collect();
            sinks.sort_unstable();
            assert_eq!(sinks, ["dav", "spool", "store"]);
        }
    }
    assert!(times.is_sorted(), "the oldest comes first");
    let left: Vec<_> = fs::read_dir(&spool).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "nothing half: {left:?}");
    assert!(!service.log().contains("hunter2"), "a secret is in the log");
    // What is new goes at once, and what was sent is not sent again after a restart.
    let next = archive_one(&service).await;
    monitor_where(&service, "the next one", |monitor| sink_of(monitor, "spool")["sent"] == 4).await;
    assert!(spool.join(file_name(&next)).exists());
    service.signal(Signal::SIGTERM);
    assert_eq!(service.wait(PATIENCE).await, Some(0));
    fs::read_dir(&spool).unwrap().for_each(|file| fs::remove_file(file.unwrap().path()).unwrap());
    service.restart();
    service.ready().await;
    monitor_where(&service, "the archive to be read", |monitor| monitor["snapshots"]["archived"] == 3).await;
    let kept = service.get(&format!("/monitor/snapshots/{next}")).await;
    assert_eq!(kept["shipped_to"].as_array().unwrap().len(), 3, "remembered: {kept:#}");
    let again =
        || fs::read_dir(&spool).unwrap().any(|file| sent.iter().any(|id| file.as_ref().unwrap().file_name() == *file_name(id)));
    assert!(!again(), "sent again");
}

#[tokio::test]
async fn too_much_for_a_sink_goes_oldest_first_and_is_told() {
    private_network();
    let (dir, bus) = bus();
    let spool = dir.path().join("spool");
    let service =
        service(&bus, &json!([{"name": "spool", "kind": "directory", "path": spool, "min_free_bytes": 0, "max_bytes": 65_536}]))
            .await;
    let mut events = bus.listen("/events").await;
    let mut made = Vec::new();
    let full = loop {
        made.push(archive_one(&service).await);
        let monitor = service.get("/monitor").await;
        let sink = sink_of(&monitor, "spool").clone();
        assert!(sink["queued_bytes"].as_u64() <= Some(65_536), "{sink:#}");
        if sink["dropped"].as_u64() >= Some(2) {
            break sink;
        }
        assert!(made.len() < 40, "{sink:#}");
    };
    let (queued, dropped) = (full["queued"].as_u64().unwrap() as usize, full["dropped"].as_u64().unwrap() as usize);
    assert_eq!(queued + dropped, made.len());
    let waiting = service.dir.path().join("state/monitor/outbox/spool");
    let mut left: Vec<String> =
        fs::read_dir(&waiting).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, made[dropped..], "the newest stay");
    let told = event_with(&mut events, "too much waits for the sink spool").await;
    assert!(told.contains(&made[0]), "{told}");
}

/// Waits for an event that says this.
async fn event_with(events: &mut Listener, what: &str) -> String {
    let told = async {
        loop {
            let event = events.recv().await.unwrap();
            let text = String::from_utf8(event.body.unwrap()).unwrap();
            if text.contains(what) {
                return text;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it is told")
}

#[tokio::test]
async fn a_sink_that_is_away_while_the_disk_is_full_loses_its_oldest_and_recording_goes_on() {
    private_network();
    let (dir, bus) = bus();
    let disk = SmallDisk::mount(24);
    let state = disk.path().join("state");
    // They wait since before the start, and the archive has let go of them.
    let waiting = state.join("monitor/outbox/spool");
    let alone = ["20260101T000000.000Z", "20260102T000000.000Z", "20260103T000000.000Z"];
    for id in alone {
        fs::create_dir_all(waiting.join(id)).unwrap();
        fs::write(waiting.join(id).join("capture.pcapng.zst"), vec![7; 2 << 20]).unwrap();
    }
    let sinks = json!([{"name": "spool", "kind": "directory", "path": dir.path().join("spool"), "min_free_bytes": 0}]);
    let service = service_on(Some(&state), 8 << 20, &bus, &sinks).await;
    let mut events = bus.listen("/events").await;
    let kept = archive_one(&service).await;
    let monitor = monitor_where(&service, "four wait", |monitor| sink_of(monitor, "spool")["queued"] == 4).await;
    assert!(monitor["disk_bytes"].as_u64() > Some(6 << 20), "what only waits counts: {monitor:#}");
    // Somebody else takes the disk's room, less than what one of them has below the floor.
    fs::write(disk.path().join("ballast"), vec![1; 11 << 20]).unwrap();
    let told = event_with(&mut events, "the disk is full; the sink spool will not get").await;
    assert!(told.contains(alone[0]) && !told.contains(alone[1]) && !told.contains(&kept), "{told}");
    let goes_on = |monitor: &Value| monitor["state"] == "recording" && monitor["free_bytes"].as_u64() >= Some(8 << 20);
    let monitor = monitor_where(&service, "it records", goes_on).await;
    let sink = sink_of(&monitor, "spool");
    assert!(sink["dropped"] == 1 && sink["queued"] == 3 && monitor["disk_bytes"].as_u64() < Some(6 << 20), "{monitor:#}");
    let is_there = |id: &str| waiting.join(id).is_dir();
    assert!(!is_there(alone[0]) && is_there(alone[1]) && is_there(alone[2]) && is_there(&kept));
    assert!(archived(&service).await.contains(&kept));
}

#[tokio::test]
async fn what_another_process_takes_from_a_directory_was_whole_when_it_appeared() {
    private_network();
    let (dir, bus) = bus();
    let spool = dir.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let service = service(&bus, &json!([{"name": "spool", "kind": "directory", "path": spool, "min_free_bytes": 0}])).await;
    let taker = thread::spawn(move || {
        let (mut taken, deadline) = (BTreeMap::new(), Instant::now() + PATIENCE);
        while taken.len() < 4 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
            for path in fs::read_dir(&spool).unwrap().map(|file| file.unwrap().path()) {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                if !name.starts_with('.') {
                    taken.insert(name, fs::read(&path).unwrap());
                    fs::remove_file(path).unwrap();
                }
            }
        }
        taken
    });
    let mut made = Vec::new();
    for _ in 0..4 {
        made.push(archive_one(&service).await);
    }
    let taken = tokio::task::spawn_blocking(|| taker.join().unwrap()).await.unwrap();
    for id in &made {
        assert!(members(&taken[&file_name(id)]) == in_archive(&service, id), "{id}");
    }
    let monitor = monitor_where(&service, "all sent", |monitor| sink_of(monitor, "spool")["sent"] == 4).await;
    assert!(sink_of(&monitor, "spool")["last_problem"].is_null(), "{monitor:#}");
}

#[tokio::test]
async fn a_server_that_hangs_holds_up_nobody() {
    private_network();
    let (_dir, bus) = bus();
    // Connections are accepted by the kernel, and nobody ever reads.
    let hanging = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/a", hanging.local_addr().unwrap());
    let mut service = service(&bus, &json!([{"name": "hangs", "kind": "http", "url": url}])).await;
    archive_one(&service).await;
    let is_sending = |monitor: &Value| sink_of(monitor, "hangs")["state"] == "sending";
    monitor_where(&service, "it hangs", is_sending).await;
    let second = archive_one(&service).await;
    let monitor = monitor_where(&service, "two wait", |monitor| sink_of(monitor, "hangs")["queued"] == 2).await;
    assert!(is_sending(&monitor) && monitor["state"] == "recording", "{monitor:#}");
    let asked = Instant::now();
    service.signal(Signal::SIGTERM);
    assert_eq!(service.wait(PATIENCE).await, Some(0));
    assert!(asked.elapsed() < Duration::from_secs(20), "it took {:?} to stop", asked.elapsed());
    assert!(service.dir.path().join("state/monitor/outbox/hangs").join(second).is_dir());
}

#[tokio::test]
async fn a_refusal_is_told_with_its_reason_and_what_was_wrong_may_be_mended_while_it_runs() {
    let Some(peers) = Peers::find() else { return };
    private_network();
    let (dir, bus) = bus();
    let (keys, password) = (dir.path().join("keys"), dir.path().join("password"));
    fs::write(&keys, "aws_access_key_id = nobody\naws_secret_access_key = hunter3\n").unwrap();
    fs::write(&password, "hunter3\n").unwrap();
    let _s3 = Store::s3(&peers, 19011, None, true).await;
    let _dav = Store::dav(&peers, 19012, None, dir.path());
    let sinks = json!([
        {"name": "store", "kind": "s3", "url": "http://127.0.0.1:19011", "bucket": "site", "credentials_file": keys},
        {"name": "dav", "kind": "http", "url": "http://127.0.0.1:19012/netdiag", "username": "plant", "password_file": password},
        {"name": "nowhere", "kind": "http", "url": "http://127.0.0.1:19012/missing/folder", "username": "plant",
         "password_file": dir.path().join("right")},
    ]);
    fs::write(dir.path().join("right"), "hunter2").unwrap();
    let service = service(&bus, &sinks).await;
    let id = archive_one(&service).await;
    let told = |monitor: &Value| monitor["sinks"].as_array().unwrap().iter().all(|sink| sink["last_problem"].is_string());
    let monitor = monitor_where(&service, "all are told", told).await;
    let problem = |name| sink_of(&monitor, name)["last_problem"].as_str().unwrap().to_owned();
    assert!(problem("store").contains("lets this user write nothing") && problem("dav").contains("401"), "{monitor:#}");
    assert!(problem("nowhere").contains("folder of the url is not there"), "{monitor:#}");
    assert!(!monitor.to_string().contains("hunter") && !service.log().contains("hunter"), "a secret is told");
    fs::write(&password, "hunter2\n").unwrap();
    service.ask("set", "/monitor/sinks/dav/retry", Some("true")).await;
    monitor_where(&service, "it arrives", |monitor| sink_of(monitor, "dav")["sent"] == 1).await;
    assert!(members(&fs::read(dir.path().join("dav/netdiag").join(file_name(&id))).unwrap()) == in_archive(&service, &id));
    assert_eq!(service.ask("set", "/monitor/sinks/unknown/retry", Some("true")).await["error"]["code"], "not_found");
}

#[tokio::test]
async fn what_is_large_goes_to_s3_in_parts() {
    let Some(peers) = Peers::find() else { return };
    private_network();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("snapshot");
    fs::create_dir(&folder).unwrap();
    // Bytes of which no two parts are alike.
    let bytes: Vec<u8> = (0_u32..5_500_000).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(folder.join("capture.pcapng.zst"), &bytes).unwrap();
    let keys = dir.path().join("keys");
    fs::write(&keys, "aws_access_key_id = plant\naws_secret_access_key = hunter2\n").unwrap();
    let _s3 = Store::s3(&peers, 19021, None, false).await;
    let settings = SinkSettings {
        name: "store".into(),
        kind: SinkKind::S3,
        url: Some("http://127.0.0.1:19021".into()),
        bucket: Some("site".into()),
        credentials_file: Some(keys),
        ..SinkSettings::default()
    };
    let parcel = Arc::new(Parcel::of(&folder, "a").unwrap());
    sink(&settings).put("h_a.tar", parcel).await.unwrap();
    let object = object(19021, "h_a.tar").await;
    let etag = object.meta.e_tag.clone().unwrap();
    assert!(etag.contains("-5"), "five parts of 5 MiB at most, not {etag}");
    assert!(members(&object.bytes().await.unwrap()) == BTreeMap::from([("a/capture.pcapng.zst".to_owned(), bytes)]));
}

#[tokio::test]
async fn over_tls_only_a_server_that_an_authority_vouches_for_gets_anything() {
    let Some(peers) = Peers::find() else { return };
    private_network();
    let (dir, bus) = bus();
    let (authority, stranger) = (Authority::new(dir.path(), "site"), Authority::new(dir.path(), "stranger"));
    let keys = dir.path().join("keys");
    fs::write(&keys, "aws_access_key_id = plant\naws_secret_access_key = hunter2\n").unwrap();
    let password = dir.path().join("password");
    fs::write(&password, "hunter2\n").unwrap();
    let _s3 = Store::s3(&peers, 19031, Some(&authority), false).await;
    let _dav = Store::dav(&peers, 19032, Some(&authority), dir.path());
    let dav = |name: &str, ca_file: Option<&Path>, host: &str| {
        json!({"name": name, "kind": "http", "url": format!("https://{host}:19032/netdiag"), "username": "plant",
               "password_file": password, "ca_file": ca_file})
    };
    let sinks = json!([
        {"name": "store", "kind": "s3", "url": "https://127.0.0.1:19031", "bucket": "site", "credentials_file": keys,
         "ca_file": authority.ca_file()},
        dav("dav", Some(authority.ca_file()), "127.0.0.1"),
        dav("unvouched", None, "127.0.0.1"),
        dav("stranger", Some(stranger.ca_file()), "127.0.0.1"),
        dav("misnamed", Some(authority.ca_file()), "localhost"),
    ]);
    let service = service(&bus, &sinks).await;
    let id = archive_one(&service).await;
    let settled = |monitor: &Value| {
        let is_told = |sink: &Value| sink["last_problem"].is_string();
        let was_sent = |sink: &Value| sink["sent"] == 1;
        ["store", "dav"].iter().all(|name| was_sent(sink_of(monitor, name)))
            && ["unvouched", "stranger", "misnamed"].iter().all(|name| is_told(sink_of(monitor, name)))
    };
    let monitor = monitor_where(&service, "two have it and three are told", settled).await;
    for name in ["unvouched", "stranger", "misnamed"] {
        let sink = sink_of(&monitor, name);
        assert!(sink["sent"] == 0 && sink["last_problem"].as_str().unwrap().contains("certificate"), "{sink:#}");
    }
    let expected = in_archive(&service, &id);
    assert!(members(&fs::read(dir.path().join("dav/netdiag").join(file_name(&id))).unwrap()) == expected);
    let trusted = Certificate::from_pem(&fs::read(authority.ca_file()).unwrap()).unwrap();
    let store = AmazonS3Builder::new()
        .with_endpoint("https://127.0.0.1:19031")
        .with_client_options(ClientOptions::new().with_root_certificate(trusted));
    assert!(members(&object_at(store, &file_name(&id)).await.bytes().await.unwrap()) == expected);
}
