//! What the monitor's recording costs beside `tcpdump` and `dumpcap`, all three at once on the same packets of a loaded link.
//!
//! `cargo bench --bench live`, as root: a pair of virtual interfaces in a network namespace of its own carries made Modbus polls of a
//! thousand connections at a fixed rate, and at last as fast as they can be sent. At the other end three processes capture with the same
//! buffer: the monitor's recording as it is in production (analysis, overlapping snapshots, memory of the last minute, files), `tcpdump -w`
//! and `dumpcap -w`.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)]

#[path = "../src/analysis/testing.rs"]
mod testing;

use netdiag::{
    analysis::{Analysis, AnalysisSettings},
    api::MonitorSettings,
    capture::{Continuous, ContinuousOptions, WindowOptions},
    lab::enter_private,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};
use pnet::datalink::{self, Channel, DataLinkSender};
use std::{
    fs::{self, File},
    io::Read as _,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};
use testing::Conversation;

const RATES: [usize; 3] = [5_000, 20_000, 50_000];
const SECONDS: usize = 10;
/// Packets that are sent as fast as they can be.
const FLOOD: usize = 1_500_000;
const CONNECTIONS: u16 = 1_000;
const DEVICES: u16 = 100;
/// Both ends of the link.
const SENDS: &str = "load0";
const CAPTURES: &str = "load1";
/// A snapshot, and how much of it is in the next one too: a fifth, where production has a thirtieth.
const SNAPSHOT: Duration = Duration::from_secs(5);
const OVERLAP: Duration = Duration::from_secs(1);
/// The argument that makes this program the monitor that is measured.
const MONITOR: &str = "the-monitor";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, what, folder] = &arguments[..]
        && what == MONITOR
    {
        return monitor(Path::new(folder));
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    if let Err(error) = enter_private() {
        return println!("skipped: no network namespace can be made here: {error}");
    }
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    ip(&format!("link add {SENDS} type veth peer name {CAPTURES}"));
    ip(&format!("link set {SENDS} up"));
    ip(&format!("link set {CAPTURES} up"));
    println!(
        "{:>9}  {:<10} {:>9} {:>9} {:>8}  {:>7} {:>7}  ratio to it",
        "packets/s", "", "sent", "received", "dropped", "CPU s", "% core"
    );
    for rate in RATES {
        measure(rate * SECONDS, Some(rate));
    }
    measure(FLOOD, None);
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip (of iproute2) can be run");
    assert!(status.success(), "ip {arguments}");
}

/// Handshakes, then polls in turn: request, answer, acknowledgement.
fn frames(count: usize) -> Vec<Vec<u8>> {
    let end = |third: u8, fourth: u16, port| SocketAddr::from(([10, 0, third, fourth as u8], port));
    let mut talks: Vec<Conversation> = (0..CONNECTIONS)
        .map(|number| Conversation::between(end(1, 1, 10_000 + number), end(0, number % DEVICES + 1, 502)))
        .collect();
    let mut frames: Vec<Vec<u8>> = talks.iter_mut().flat_map(Conversation::handshake).collect();
    for round in 0_u16.. {
        let [high, low] = round.to_be_bytes();
        for talk in &mut talks {
            frames.push(talk.send(false, &[high, low, 0, 0, 0, 6, 1, 3, 0, 100, 0, 20]));
            frames.push(talk.send(true, &[&[high, low, 0, 0, 0, 43, 1, 3, 40][..], &[7; 40]].concat()));
            frames.push(talk.ack(false));
        }
        if frames.len() >= count {
            break;
        }
    }
    frames.truncate(count);
    frames
}

/// Sends so many packets a second, a millisecond's worth at once, or without a pause; gives how long it took.
fn send(frames: &[Vec<u8>], rate: Option<usize>) -> Duration {
    let interface = datalink::interfaces().into_iter().find(|interface| interface.name == SENDS).expect("the link");
    let Ok(Channel::Ethernet(mut sender, _)) = datalink::channel(&interface, datalink::Config::default()) else {
        panic!("packets cannot be sent at {SENDS}")
    };
    let begun = Instant::now();
    let Some(rate) = rate else {
        frames.iter().for_each(|frame| sent(&mut *sender, frame));
        return begun.elapsed();
    };
    for (number, together) in (1_u32..).zip(frames.chunks(rate / 1_000)) {
        together.iter().for_each(|frame| sent(&mut *sender, frame));
        thread::sleep((begun + Duration::from_millis(1) * number).saturating_duration_since(Instant::now()));
    }
    begun.elapsed()
}

fn sent(sender: &mut dyn DataLinkSender, frame: &[u8]) {
    sender.send_to(frame, None).expect("the link takes packets").expect("sent");
}

/// A process that captures, and what it has said.
struct Capturer {
    name: &'static str,
    child: Child,
    said: File,
}

impl Capturer {
    fn start(name: &'static str, mut command: Command, folder: &Path) -> Option<Self> {
        let path = folder.join(format!("{name}.said"));
        let file = File::create(&path).expect("a file");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a file")).stderr(file);
        let child = command.spawn().ok()?;
        Some(Self { name, child, said: File::open(path).expect("a file") })
    }

    /// Ends it, and gives what it said and the processor time that it took.
    fn end(mut self) -> (String, f64) {
        let pid = self.child.id();
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT).expect("it runs");
        // A process that has ended keeps its figures until it is waited for.
        let cpu = loop {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is not waited for yet");
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            let ticks = |field: usize| fields.get(field).and_then(|field| field.parse::<f64>().ok()).expect("a number");
            if fields.first() == Some(&"Z") {
                let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
                break (ticks(11) + ticks(12)) / per_second as f64;
            }
            thread::sleep(Duration::from_millis(10));
        };
        let _ = self.child.wait();
        let mut said = String::new();
        let _ = self.said.read_to_string(&mut said);
        (said, cpu)
    }
}

fn measure(count: usize, rate: Option<usize>) {
    let frames = frames(count);
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let settings = MonitorSettings::default();
    let (kib, mib) = ((settings.buffer_bytes >> 10).to_string(), (settings.buffer_bytes >> 20).to_string());
    let mut monitor = Command::new(std::env::current_exe().expect("this program"));
    monitor.args([MONITOR, &file("")]);
    let snaplen = settings.snaplen.to_string();
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-n", "-p", "-i", CAPTURES, "-B", &kib, "-s", &snaplen, "-Z", "root", "-w", &file("tcpdump.pcap")]);
    let mut dumpcap = Command::new("dumpcap");
    dumpcap.args(["-q", "-p", "-i", CAPTURES, "-B", &mib, "-s", &snaplen, "-w", &file("dumpcap.pcapng")]);
    let capturers: Vec<Capturer> = [("monitor", monitor), ("tcpdump", tcpdump), ("dumpcap", dumpcap)]
        .into_iter()
        .filter_map(|(name, command)| Capturer::start(name, command, folder.path()))
        .collect();
    thread::sleep(Duration::from_secs(1));
    let took = send(&frames, rate);
    thread::sleep(Duration::from_secs(1));
    let results: Vec<(&str, String, f64)> = capturers
        .into_iter()
        .map(|capturer| {
            let name = capturer.name;
            let (said, cpu) = capturer.end();
            (name, said, cpu)
        })
        .collect();
    let ours = results.first().map_or(0.0, |(.., cpu)| *cpu);
    let reached = frames.len() as f64 / took.as_secs_f64();
    for (name, said, cpu) in &results {
        let (received, dropped) = counts(name, said).unwrap_or_else(|| panic!("{name} said: {said}"));
        let part = 100.0 * cpu / took.as_secs_f64();
        println!(
            "{reached:>9.0}  {name:<10} {:>9} {received:>9} {dropped:>8}  {cpu:>7.2} {part:>6.1}%  {:.2}",
            frames.len(),
            ours / cpu
        );
    }
}

/// Packets received and dropped, as a capturer tells them at its end.
fn counts(name: &str, said: &str) -> Option<(u64, u64)> {
    let before = |words: &str| said.split(words).next()?.split_whitespace().last()?.parse().ok();
    match name {
        // `Packets received/dropped on interface 'load1': 1000/0 (pcap:0/...`
        "dumpcap" => {
            let (received, dropped) = said.split("': ").last()?.split_whitespace().next()?.split_once('/')?;
            Some((received.parse().ok()?, dropped.parse().ok()?))
        }
        _ => Some((before(" packets captured")?, before(" packets dropped by kernel")?)),
    }
}

/// Records as the monitor does until it is interrupted: windows that overlap, each with its analysis and report, and tells what came.
fn monitor(folder: &Path) {
    let settings = MonitorSettings::default();
    let capture = Continuous::start(ContinuousOptions {
        interfaces: vec![CAPTURES.to_owned()],
        filter: settings.filter,
        snaplen: settings.snaplen,
        buffer_bytes: settings.buffer_bytes,
        past: Duration::from_secs(settings.pre_s),
        past_max_bytes: usize::try_from(settings.pre_max_bytes).unwrap_or(usize::MAX),
    })
    .expect("the capture begins");
    let (interrupted, interrupt) = channel();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        let _ = interrupted.send(());
    });
    let open = |number: usize| {
        let sink = Arc::new(Mutex::new(Analysis::new(AnalysisSettings::default(), Vec::new(), Vec::new())));
        let options = WindowOptions {
            file: folder.join(format!("snapshot{number}.pcapng")),
            max_bytes: settings.snapshot_max_bytes,
            min_free_bytes: 0,
            with_past: false,
            interfaces: Vec::new(),
            filter: String::new(),
        };
        (capture.open(options, Arc::clone(&sink)), sink)
    };
    let close = |(window, sink): (u64, Arc<Mutex<Analysis>>)| {
        let closed = capture.close(window).recv().expect("the capture goes on");
        let filed = thread::spawn(move || {
            let mut analysis = sink.lock().expect("no panic");
            analysis.finish();
            let report = serde_json::to_vec(&analysis.report()).expect("a report");
            (closed.finish(false), report.len())
        });
        let (report, _) = filed.join().expect("no panic");
        assert_eq!(report.problem, None);
    };
    let mut current = open(0);
    for number in 1.. {
        match interrupt.recv_timeout(SNAPSHOT - OVERLAP) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
        let next = open(number);
        let is_over = interrupt.recv_timeout(OVERLAP).is_ok();
        close(std::mem::replace(&mut current, next));
        if is_over {
            break;
        }
    }
    close(current);
    // What the interfaces have counted is written down twice a second.
    thread::sleep(Duration::from_millis(600));
    let interface = capture.interfaces().into_iter().next().expect("one interface");
    println!(
        "{} packets captured, {} packets dropped by kernel",
        interface.received - interface.kernel_dropped,
        interface.kernel_dropped
    );
}
