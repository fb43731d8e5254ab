//! Months in fast motion: the real binary makes short snapshots, one after the other, while fault after fault happens to it, and at the end it
//! has no more memory, threads and files open than at the beginning.
//!
//! `NETDIAG_SOAK_S=3600 cargo test --release --test soak -- --nocapture` runs for an hour, some nine thousand snapshots.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use netdiag::api::UtcTime;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{
    disk::SmallDisk,
    private_network,
    service::{Listener, Options, Service, bus, modbus_client},
};

/// Without `NETDIAG_SOAK_S`: long enough that each fault happens once.
const SHORT: Duration = Duration::from_secs(28);
/// From here on the memory is compared; before, the limits of what is kept are not reached.
const LONG: Duration = Duration::from_secs(240);
const SNAPSHOT: Duration = Duration::from_millis(400);
/// How long each fault lasts; and then it is calm for as long.
const FAULT: Duration = Duration::from_millis(1500);
const DISK_MIB: u64 = 96;
const MIB: u64 = 1 << 20;

/// How the devices are.
const WELL: u8 = 0;
const SILENT: u8 = 1;
const REFUSING: u8 = 2;
const RESETTING: u8 = 3;

/// Modbus servers with a client each, a hundred requests a second, on connections that are made anew when they break.
struct Devices {
    state: Arc<AtomicU8>,
    ended: Arc<AtomicBool>,
    ports: Vec<u16>,
}

impl Devices {
    fn begin(count: u8) -> Self {
        let (state, ended) = (Arc::new(AtomicU8::new(WELL)), Arc::new(AtomicBool::new(false)));
        let ports = (0..count).map(|number| device(number, &state, &ended)).collect();
        Self { state, ended, ports }
    }

    fn are(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn address(number: u8) -> String {
    format!("127.0.1.{}", number + 1)
}

fn device(number: u8, state: &Arc<AtomicU8>, ended: &Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind((address(number), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (state, over) = (Arc::clone(state), Arc::clone(ended));
    thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let Ok((stream, _)) = listener.accept() else { continue };
            serve(stream, &state, &over);
        }
    });
    let over = Arc::clone(ended);
    thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            if let Ok(stream) = TcpStream::connect((address(number), port)) {
                let _ = ask(stream, &over);
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
    port
}

fn serve(mut stream: TcpStream, state: &AtomicU8, ended: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut request = [0; 12];
    while !ended.load(Ordering::Relaxed) && stream.read_exact(&mut request).is_ok() {
        let [high, low, .., unit] = request[..7] else { return };
        let response: &[u8] = match state.load(Ordering::Relaxed) {
            SILENT => continue,
            REFUSING => &[high, low, 0, 0, 0, 3, unit, 0x83, 4],
            RESETTING => {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                return;
            }
            _ => &[high, low, 0, 0, 0, 5, unit, 3, 2, 0, 7],
        };
        if stream.write_all(response).is_err() {
            return;
        }
    }
}

fn ask(mut stream: TcpStream, ended: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    for id in 0_u16.. {
        if ended.load(Ordering::Relaxed) {
            break;
        }
        let [high, low] = id.to_be_bytes();
        stream.write_all(&[high, low, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1])?;
        match stream.read(&mut [0; 64]) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What the process takes.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    memory: u64,
    threads: usize,
    files: usize,
}

impl Taken {
    fn by(service: &Service) -> Self {
        let proc = |name: &str| fs::read_dir(format!("/proc/{}/{name}", service.child.id())).map_or(0, Iterator::count);
        Self { memory: service.memory_bytes(), threads: proc("task"), files: proc("fd") }
    }

    fn most(all: &[Self]) -> Self {
        all.iter().fold(Self::default(), |most, one| Self {
            memory: most.memory.max(one.memory),
            threads: most.threads.max(one.threads),
            files: most.files.max(one.files),
        })
    }
}

/// The snapshots that were told of, by name, as they were told last before they were deleted.
type Told = Arc<Mutex<BTreeMap<String, Value>>>;

fn hear(mut listener: Listener) -> Told {
    let told = Told::default();
    let hearing = Arc::clone(&told);
    tokio::spawn(async move {
        while let Some(message) = listener.recv().await {
            let Some(snapshot) = message.body.and_then(|body| serde_json::from_slice::<Value>(&body).ok()) else { continue };
            if snapshot["state"] == "temporary" || snapshot["state"] == "archived" {
                hearing.lock().unwrap().insert(snapshot["snapshot_id"].as_str().unwrap().to_owned(), snapshot);
            }
        }
    });
    told
}

fn link(args: &[&str]) {
    let status = Command::new("ip").args(args).status().unwrap();
    assert!(status.success(), "ip {args:?}");
}

fn make_second_interface() {
    link(&["link", "add", "soak0", "type", "veth", "peer", "name", "soak1"]);
    link(&["link", "set", "soak0", "up"]);
    link(&["link", "set", "soak1", "up"]);
}

/// Everything that happens, over and over.
struct Faults<'a> {
    service: &'a Service,
    devices: &'a Devices,
    disk: &'a Path,
    pinned: Option<String>,
    /// How often recording was made to break off.
    breaks: usize,
}

impl Faults<'_> {
    async fn happen(&mut self, number: usize) {
        let service = self.service;
        match number % 10 {
            0 => self.devices_are(SILENT).await,
            1 => self.devices_are(REFUSING).await,
            2 => self.devices_are(RESETTING).await,
            3 => {
                link(&["link", "del", "soak0"]);
                tokio::time::sleep(FAULT).await;
                make_second_interface();
            }
            4 => drop(service.ask("set", "/monitor/trigger", Some(r#"{"reason": "the soak test"}"#)).await),
            5 => drop(service.start_test(r#"{"settle_ms": 300}"#).await),
            6 => self.pin_another().await,
            7 => {
                let ballast = self.disk.join("ballast");
                fs::write(&ballast, vec![1; usize::try_from((DISK_MIB - 20) * MIB).unwrap()]).ok();
                tokio::time::sleep(FAULT).await;
                fs::remove_file(&ballast).unwrap();
                self.breaks += 1;
            }
            8 => {
                // Another endpoint is another filter, so another capture takes over.
                let (path, text) = modbus_client("visitor", &address(200), 502 + u16::try_from(number / 10 % 50).unwrap());
                fs::write(service.dir.path().join("config").join(path), text).unwrap();
                service.ask("set", "/topology/rescan", Some("true")).await;
            }
            _ => {
                service.ask("set", "/monitor/enabled", Some("false")).await;
                tokio::time::sleep(FAULT / 2).await;
                service.ask("set", "/monitor/enabled", Some("true")).await;
                self.breaks += 1;
            }
        }
    }

    async fn devices_are(&self, state: u8) {
        self.devices.are(state);
        tokio::time::sleep(FAULT).await;
        self.devices.are(WELL);
    }

    async fn pin_another(&mut self) {
        if let Some(former) = self.pinned.take() {
            self.service.ask("set", &format!("/monitor/snapshots/{former}/pinned"), Some("false")).await;
        }
        let list = self.service.get("/monitor/snapshots").await;
        let newest = list["snapshots"].as_array().unwrap().iter().find(|one| one["state"] == "archived");
        if let Some(newest) = newest {
            let snapshot_id = newest["snapshot_id"].as_str().unwrap().to_owned();
            self.service.ask("set", &format!("/monitor/snapshots/{snapshot_id}/pinned"), Some("true")).await;
            self.pinned = Some(snapshot_id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_snapshots_and_fault_after_fault_leave_nothing_behind() {
    let length =
        std::env::var("NETDIAG_SOAK_S").map_or(SHORT, |text| Duration::from_secs(text.parse().expect("NETDIAG_SOAK_S: seconds")));
    private_network();
    let (_dir, bus) = bus();
    let disk = SmallDisk::mount(DISK_MIB);
    make_second_interface();
    let devices = Devices::begin(4);
    let monitor = json!({
        "snapshot_s": SNAPSHOT.as_secs_f64(), "overlap_s": 0.1, "interfaces": ["lo", "soak0"], "neighbours": 1,
        "clean_retention_s": 10, "repeat_s": 2, "archive_max_bytes": 8 * MIB, "min_free_bytes": 24 * MIB,
        "pre_s": 1, "post_s": 1, "pre_max_bytes": MIB, "triggers_per_hour": 3600, "triggers": [{"finding": "modbus.exceptions"}],
    });
    let settings = json!({
        "monitor": monitor, "monitor_enabled": true, "response_timeout_ms": 300, "state_dir": disk.path().join("state"),
        "jobs_kept": 20, "captures_kept_bytes": 4 * MIB,
    });
    let configs: Vec<(String, String)> = (0_u8..)
        .zip(&devices.ports)
        .map(|(number, port)| modbus_client(&format!("device_{number}"), &address(number), *port))
        .collect();
    let mut service = Service::start(&bus.socket, &configs, &Options { settings, ..Options::default() });
    service.ready().await;
    let told = hear(bus.listen("/netdiag/monitor/snapshots").await);

    let begun = Instant::now();
    let mut faults = Faults { service: &service, devices: &devices, disk: disk.path(), pinned: None, breaks: 0 };
    let (mut samples, mut number) = (Vec::new(), 0);
    while begun.elapsed() < length {
        faults.happen(number).await;
        number += 1;
        tokio::time::sleep(FAULT).await;
        samples.push(Taken::by(&service));
        let used = fs::read_dir(disk.path().join("state/monitor/clean")).unwrap().count();
        assert!(used < 60, "{used} clean ones are kept, ten seconds hold 25");
    }
    let breaks = faults.breaks;
    let elapsed = begun.elapsed();
    let monitor = service.get("/monitor").await;
    service.signal(Signal::SIGTERM);
    assert_eq!(service.wait(Duration::from_secs(20)).await, Some(0));
    assert_eq!(fs::read_dir(disk.path().join("state/monitor/open")).unwrap().count(), 0, "what was open is filed");

    let told = told.lock().unwrap();
    let of = |verdict: &str| told.values().filter(|snapshot| snapshot["verdict"] == verdict).count();
    let time = |snapshot: &Value, field: &str| snapshot[field].as_str().unwrap().parse::<UtcTime>().unwrap();
    let mut continuous: Vec<&Value> = told.values().filter(|snapshot| snapshot["trigger"].is_null()).collect();
    continuous.sort_by_key(|snapshot| time(snapshot, "opened_at"));
    let gaps = continuous.windows(2).filter(|pair| time(pair[1], "opened_at") > time(pair[0], "closed_at")).count();
    // Of what could not be filed on the full disk, and was mended when there was room, it is not known.
    let dropped: u64 = told.values().filter_map(|snapshot| snapshot["kernel_dropped"].as_u64()).sum();
    let packets: u64 = continuous.iter().map(|snapshot| snapshot["packets"].as_u64().unwrap()).sum();
    let quarters: Vec<Taken> = samples.chunks(samples.len().div_ceil(4)).map(Taken::most).collect();
    println!(
        "{:.0} s, {number} faults: {} snapshots ({} suspect, {} triggered), {} of them deleted, {packets} packets, {dropped} dropped, \
         {gaps} gaps for {breaks} breaks",
        elapsed.as_secs_f64(),
        told.len(),
        of("suspect"),
        told.len() - continuous.len(),
        monitor["snapshots"]["deleted"],
    );
    for (quarter, most) in (1..).zip(&quarters) {
        println!(
            "quarter {quarter}: at most {:.1} MiB, {} threads, {} files",
            most.memory as f64 / MIB as f64,
            most.threads,
            most.files
        );
    }

    // Recording is off for a while at each break, and the snapshots of the rest follow one another; a machine that stalls skips some.
    let recorded = elapsed.saturating_sub(FAULT * 3 * u32::try_from(breaks).unwrap());
    let expected = (recorded.as_secs_f64() / SNAPSHOT.as_secs_f64() * 0.4) as usize;
    assert!(continuous.len() >= expected, "{} snapshots, expected at least {expected}", continuous.len());
    assert!(gaps <= breaks, "{gaps} gaps, and only {breaks} times was recording made to break off");
    assert_eq!(dropped, 0, "packets were lost");
    assert!(of("suspect") > 0 && of("clean") > 0 && told.len() > continuous.len());
    let (first, last) = (quarters[0], quarters[quarters.len() - 1]);
    assert!(last.files <= first.files + 8 && last.threads <= first.threads + 8, "{first:?} became {last:?}");
    assert!(last.memory < 128 * MIB, "{last:?}");
    if length >= LONG {
        let second = quarters[1];
        assert!(last.memory <= second.memory + second.memory / 10 + 4 * MIB, "{second:?} became {last:?}");
    }
}
