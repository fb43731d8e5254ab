//! Real captures on interfaces that each test makes for itself, in a network namespace of its own. They need root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use netdiag::{
    api::CaptureReport,
    capture::{
        CaptureError, Continuous, ContinuousOptions, OpenError, Recording, RecordingOptions, WindowOptions, capability,
        endpoints_filter, start,
    },
    packet::{Damage, LinkType, Packet, PacketSink, Reader, RecordedInterface},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::Uid,
};
use pcap::{Active, Capture};
use std::{
    fs::{self, File},
    net::UdpSocket,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
/// An EtherType for experiments (IEEE 802), which nothing else on the link speaks.
const EXPERIMENT: &str = "ether proto 0x88b5";

/// Everything that came, as it came.
#[derive(Default)]
struct Seen(Vec<(u64, i64, u32, Vec<u8>)>);

impl PacketSink for Seen {
    fn packet(&mut self, packet: &Packet<'_>) {
        self.0.push((packet.number, packet.unix_ns, packet.interface, packet.data.to_vec()));
    }
}

/// A network namespace with `lo` and the veth pair `near` and `far`, all up; gone when the test's thread is.
struct Site {
    folder: TempDir,
    seen: Arc<Mutex<Seen>>,
}

impl Site {
    fn new() -> Self {
        assert!(Uid::effective().is_root(), "run these tests as root: they make network interfaces and capture on them");
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        // Or the interfaces would speak by themselves.
        for scope in ["all", "default"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1").unwrap();
        }
        ip("link add near type veth peer name far");
        for name in ["lo", "near", "far"] {
            ip(&format!("link set {name} up"));
        }
        Self { folder: tempfile::tempdir().unwrap(), seen: Arc::default() }
    }

    fn options(&self, interfaces: &[&str], filter: &str) -> RecordingOptions {
        let interfaces = interfaces.iter().map(|name| (*name).to_owned()).collect();
        RecordingOptions::new(interfaces, filter.into(), self.folder.path().join("recording.pcapng"))
    }

    fn start(&self, options: RecordingOptions) -> Recording {
        start(options, Arc::clone(&self.seen)).unwrap()
    }

    fn seen(&self) -> usize {
        self.seen.lock().unwrap().0.len()
    }

    fn wait_for(&self, packets: usize) {
        wait_until(|| self.seen() >= packets, || format!("only {} of {packets} packets came", self.seen()));
    }
}

fn wait_until(condition: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let limit = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < limit, "{}", otherwise());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is not installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Sends frames into one end of the pair.
fn wire(name: &str) -> Capture<Active> {
    Capture::from_device(name).unwrap().open().unwrap()
}

fn experiment(number: u32) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[0x88, 0xb5], &number.to_be_bytes()].concat();
    frame.resize(60 + (number % 1000) as usize, 0);
    frame
}

fn now_ns() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i64
}

struct InFile {
    packets: Vec<(u64, i64, u32, Vec<u8>)>,
    interfaces: Vec<RecordedInterface>,
    damage: Option<Damage>,
}

fn read(path: &Path) -> InFile {
    let mut reader = Reader::new(File::open(path).unwrap()).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        packets.push((packet.number, packet.unix_ns, packet.interface, packet.data.to_vec()));
    }
    InFile { packets, interfaces: reader.interfaces().to_vec(), damage: reader.damage() }
}

fn file_of(report: &CaptureReport) -> PathBuf {
    report.file.clone().expect("no file").into()
}

#[test]
fn every_packet_sent_is_in_the_file_and_reached_the_sink_in_order() {
    let site = Site::new();
    const PACKETS: u32 = 20_000;
    let mut near = wire("near");
    let before = now_ns();
    let recording = site.start(RecordingOptions { buffer_bytes: 32 << 20, ..site.options(&["far"], EXPERIMENT) });
    for number in 0..PACKETS {
        near.sendpacket(experiment(number)).unwrap();
    }
    let after = now_ns();
    // Those that the kernel still holds back are taken before the recording ends.
    let report = recording.stop();
    assert_eq!((report.packets, report.not_written, report.kernel_dropped), (PACKETS.into(), 0, 0), "{report:?}");
    assert_eq!((report.problem.as_deref(), report.cut, report.filter.as_deref()), (None, 0, Some(EXPERIMENT)));
    assert_eq!(report.interfaces[0].packets, u64::from(PACKETS));
    assert_eq!(report.file_bytes, fs::metadata(file_of(&report)).unwrap().len());

    let seen = std::mem::take(&mut site.seen.lock().unwrap().0);
    assert_eq!(seen.len(), PACKETS as usize);
    let mut last_ns = before;
    for (number, (packet_number, unix_ns, interface, data)) in (0..).zip(&seen) {
        assert_eq!((*packet_number, *interface), (u64::from(number) + 1, 0));
        assert_eq!(*data, experiment(number));
        assert!((last_ns..=after).contains(unix_ns), "{last_ns} {unix_ns} {after}");
        last_ns = *unix_ns;
    }
    // Nanoseconds, not microseconds three digits longer.
    assert!(seen.iter().any(|(_, unix_ns, ..)| unix_ns % 1000 != 0));
    let file = read(&file_of(&report));
    assert_eq!(file.damage, None);
    assert_eq!(file.packets, seen);
    let [far] = &file.interfaces[..] else { panic!("{:?}", file.interfaces) };
    assert_eq!((far.name.as_deref(), far.link_type, far.filter.as_deref()), (Some("far"), LinkType::ETHERNET, Some(EXPERIMENT)));
    assert_eq!((far.received, far.kernel_dropped), (Some(PACKETS.into()), Some(0)));
}

#[test]
fn a_packet_reaches_the_sink_while_the_recording_goes_on() {
    let site = Site::new();
    let mut near = wire("near");
    let recording = site.start(site.options(&["far"], EXPERIMENT));
    for number in 0..20 {
        near.sendpacket(experiment(number)).unwrap();
        site.wait_for(number as usize + 1);
    }
    assert_eq!(recording.progress().0, 20);
    assert_eq!(recording.stop().packets, 20);
}

#[test]
fn a_recording_on_an_idle_link_can_be_stopped() {
    let site = Site::new();
    let recording = site.start(site.options(&["far", "lo"], EXPERIMENT));
    // A thread that waited for packets would be told as a problem.
    let report = recording.stop();
    assert_eq!((report.packets, report.problem), (0, None));
}

#[test]
fn two_interfaces_in_one_file_are_read_by_wireshark() {
    let site = Site::new();
    let mut near = wire("near");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let recording = site.start(site.options(&["far", "lo"], &format!("{EXPERIMENT} or udp")));
    for number in 0..100 {
        near.sendpacket(experiment(number)).unwrap();
        socket.send_to(b"to myself", socket.local_addr().unwrap()).unwrap();
    }
    site.wait_for(200);
    let report = recording.stop();
    assert_eq!(report.interfaces.iter().map(|interface| interface.packets).collect::<Vec<_>>(), [100, 100], "{report:?}");
    let file = file_of(&report);

    let fields = ["frame.number", "frame.interface_name", "frame.protocols"].map(|field| ["-e", field]).concat();
    const NEEDED: &str = "tshark and capinfos have to read the file: `make setup-test` installs them";
    let tshark = Command::new("tshark").args(["-r", file.to_str().unwrap(), "-T", "fields"]).args(fields).output().expect(NEEDED);
    let capinfos = Command::new("capinfos").args(["-T", "-r", "-c", "-F"]).arg(&file).output().expect(NEEDED);
    assert!(tshark.status.success(), "{tshark:?}");
    let lines = String::from_utf8(tshark.stdout).unwrap();
    let seen = &site.seen.lock().unwrap().0;
    assert_eq!(lines.lines().count(), seen.len());
    for (line, (number, _, interface, _)) in lines.lines().zip(seen) {
        let expected = if *interface == 0 { "far" } else { "lo" };
        assert!(line.starts_with(&format!("{number}\t{expected}\teth:")), "{line}");
    }
    // Drops are where Wireshark looks for them.
    assert!(capinfos.status.success(), "{capinfos:?}");
    let statistics = Command::new("capinfos").arg(&file).output().unwrap();
    let statistics = String::from_utf8_lossy(&statistics.stdout).into_owned();
    for expected in ["Capture application: netdiag", "Number of interfaces in file: 2", "Number of stat entries = 1", "nanoseconds"]
    {
        assert!(statistics.contains(expected), "{expected} is not in {statistics}");
    }
}

#[test]
fn an_interface_that_is_removed_is_told_and_the_others_go_on() {
    let site = Site::new();
    let mut near = wire("near");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let recording = site.start(site.options(&["far", "lo"], &format!("{EXPERIMENT} or udp")));
    near.sendpacket(experiment(0)).unwrap();
    site.wait_for(1);
    drop(near);
    ip("link del near");
    socket.send_to(b"still here", socket.local_addr().unwrap()).unwrap();
    site.wait_for(2);

    ip("link add near type veth peer name far");
    ip("link set far up");
    ip("link set near up");
    let mut near = wire("near");
    let limit = Instant::now() + PATIENCE;
    while site.seen() < 3 {
        near.sendpacket(experiment(7)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(Instant::now() < limit, "the interface that came back is not captured");
    }
    let report = recording.stop();
    let error = report.interfaces[0].error.clone().expect("nothing told");
    assert!(error.contains("captured again"), "{error}");
    assert_eq!((report.interfaces[1].packets, report.interfaces[1].error.as_deref()), (1, None));
    let file = read(&file_of(&report));
    assert_eq!((file.damage, file.interfaces.len()), (None, 2));
    assert_eq!(file.packets.len(), site.seen());
}

#[test]
fn an_interface_that_goes_down_and_up_is_captured_again() {
    let site = Site::new();
    let mut near = wire("near");
    let recording = site.start(site.options(&["far"], EXPERIMENT));
    near.sendpacket(experiment(0)).unwrap();
    site.wait_for(1);
    ip("link set far down");
    ip("link set far up");
    let limit = Instant::now() + PATIENCE;
    while site.seen() < 2 {
        let _ = near.sendpacket(experiment(1));
        std::thread::sleep(Duration::from_millis(50));
        assert!(Instant::now() < limit, "not captured again");
    }
    let report = recording.stop();
    let error = report.interfaces[0].error.as_deref().expect("nothing told");
    assert!(error.starts_with("the interface went down"), "{error}");
    assert_eq!(report.packets, site.seen() as u64);
}

#[test]
fn an_interface_that_is_down_is_not_captured_whatever_it_still_hands_over() {
    let _site = Site::new();
    let capture = continuous("far", Duration::ZERO);
    let captured = || capture.interfaces().iter().any(|one| one.captured);
    let mut near = wire("near");
    let mut number = 0;
    for _ in 0..4 {
        // Packets are on their way when it goes down.
        let down_at = Instant::now() + Duration::from_millis(300);
        while Instant::now() < down_at {
            let _ = near.sendpacket(experiment(number));
            number += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
        ip("link set far down");
        wait_until(|| !captured(), || "not told".into());
        let end = Instant::now() + Duration::from_millis(1300);
        while Instant::now() < end {
            assert!(!captured(), "it is down and is said to be captured");
            std::thread::sleep(Duration::from_millis(20));
        }
        ip("link set far up");
        wait_until(captured, || "not captured again".into());
    }
}

#[test]
fn interfaces_that_cannot_be_opened_are_told_while_the_others_are_recorded() {
    let site = Site::new();
    let recording = site.start(site.options(&["absent", "lo"], "udp"));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
    site.wait_for(1);
    let report = recording.stop();
    assert_eq!(report.interfaces[0].error.as_deref(), Some("there is no such interface"));
    assert_eq!((report.interfaces[1].packets, report.interfaces[1].error.as_deref()), (1, None));

    let refused = |options: RecordingOptions| start(options, Arc::clone(&site.seen)).expect_err("it started");
    let CaptureError::Interfaces(errors) = refused(site.options(&["absent"], "")) else { panic!() };
    assert_eq!(errors, [("absent".to_owned(), OpenError::NoSuchInterface)]);
    let CaptureError::Interfaces(errors) = refused(site.options(&["lo"], "tcp port banana")) else { panic!() };
    assert!(matches!(&errors[0].1, OpenError::Filter { filter, .. } if filter == "tcp port banana"), "{errors:?}");
    assert!(matches!(refused(site.options(&[], "")), CaptureError::NoInterface));
}

#[test]
fn what_exceeds_the_file_limit_still_reaches_the_sink_and_is_counted() {
    let site = Site::new();
    let mut near = wire("near");
    let recording = site.start(RecordingOptions { max_bytes: 50_000, ..site.options(&["far"], EXPERIMENT) });
    for number in 0..1000 {
        near.sendpacket(experiment(number)).unwrap();
    }
    site.wait_for(1000);
    let report = recording.stop();
    assert!(report.file_bytes <= 50_000 && report.packets > 50, "{report:?}");
    assert_eq!(report.packets + report.not_written, 1000);
    assert!(report.problem.as_ref().is_some_and(|problem| problem.contains("limit of 50000 bytes")), "{report:?}");
    let file = read(&file_of(&report));
    assert_eq!((file.damage, file.packets.len() as u64), (None, report.packets));
    assert_eq!(file.packets[..], site.seen.lock().unwrap().0[..file.packets.len()]);
}

#[test]
fn a_full_disk_ends_the_file_with_a_whole_packet_and_not_the_analysis() {
    let site = Site::new();
    let disk = site.folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
    let mut near = wire("near");
    let recording = site.start(RecordingOptions { file: disk.join("a.pcapng"), ..site.options(&["far"], EXPERIMENT) });
    for number in 0..4000 {
        near.sendpacket(experiment(number)).unwrap();
    }
    site.wait_for(4000);
    let report = recording.stop();
    assert!(report.problem.as_ref().is_some_and(|problem| problem.contains("No space left")), "{report:?}");
    assert_eq!(report.packets + report.not_written, 4000);
    let file = read(&file_of(&report));
    assert_eq!((file.damage, file.packets.len() as u64), (None, report.packets));
    assert!(report.packets > 1000, "{report:?}");
    assert_eq!(report.file_bytes, fs::metadata(file_of(&report)).unwrap().len());
}

#[test]
fn a_folder_that_does_not_exist_costs_the_file_and_not_the_analysis() {
    let site = Site::new();
    let mut near = wire("near");
    let file = site.folder.path().join("absent/a.pcapng");
    let recording = site.start(RecordingOptions { file, ..site.options(&["far"], EXPERIMENT) });
    near.sendpacket(experiment(0)).unwrap();
    site.wait_for(1);
    let report = recording.stop();
    assert_eq!((report.file, report.packets, report.not_written), (None, 0, 1));
    assert!(report.problem.unwrap().contains("absent/a.pcapng"));
}

#[test]
fn the_snap_length_cuts_packets_and_counts_them() {
    let site = Site::new();
    let mut near = wire("near");
    let recording = site.start(RecordingOptions { snaplen: 64, ..site.options(&["far"], EXPERIMENT) });
    near.sendpacket(experiment(0)).unwrap();
    near.sendpacket(experiment(500)).unwrap();
    site.wait_for(2);
    let report = recording.stop();
    assert_eq!((report.packets, report.cut), (2, 1));
    assert_eq!(read(&file_of(&report)).packets[1].3, experiment(500)[..64]);
}

#[test]
fn the_filter_of_a_topology_lets_through_its_endpoints_and_nothing_else() {
    let site = Site::new();
    let endpoint = |direction: &str, address: &str, port: u16| {
        let json = serde_json::json!({
            "endpoint_id": "e", "protocol": "modbus", "direction": direction, "transport": "tcp", "name": null, "host": address,
            "address": address, "port": port, "port_source": "explicit", "serial": null, "config_files": [], "process": null,
            "max_connections": null, "interface": null, "source_address": null, "gateway": null,
        });
        serde_json::from_value(json).unwrap()
    };
    let filter = endpoints_filter(&[endpoint("outbound", "10.0.0.2", 502), endpoint("inbound", "0.0.0.0", 1502)]);
    let mut near = wire("near");
    let recording = site.start(site.options(&["far"], &filter));
    let mut expected = Vec::new();
    for tag in [&[][..], &[0x81, 0, 0, 7]] {
        for (host, port, wanted) in [(2, 502, true), (3, 502, false), (9, 1502, true), (2, 80, false)] {
            let mut frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], tag, &[8, 0]].concat();
            frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, host, 0x9c, 0x40]);
            frame.extend(u16::to_be_bytes(port));
            frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 2, 0, 0, 0, 0, 0]);
            frame.resize(60, 0);
            near.sendpacket(&*frame).unwrap();
            if wanted {
                expected.push(frame);
            }
        }
    }
    site.wait_for(expected.len());
    let report = recording.stop();
    assert_eq!(report.packets as usize, expected.len());
    let seen = &site.seen.lock().unwrap().0;
    assert_eq!(seen.iter().map(|(.., data)| data.clone()).collect::<Vec<_>>(), expected);

    // Live, libpcap asks the kernel for stripped VLAN tags too, which takes more instructions than the unit tests see.
    let live = wire("lo");
    for count in [0, 50, 83, 250, 277, 280, 1000] {
        for ports in [1, 10, 60, 1000] {
            let endpoints: Vec<_> =
                (0..count).map(|n| endpoint("outbound", &format!("10.1.{}.{}", n / 250, n % 250 + 1), 502 + n % ports)).collect();
            let instructions = live.compile(&endpoints_filter(&endpoints), true).unwrap().get_instructions().len();
            assert!(instructions < 4096, "{count} endpoints, {ports} ports: {instructions} instructions");
        }
    }
}

#[test]
fn dropping_a_recording_ends_it_and_keeps_the_file() {
    let site = Site::new();
    let mut near = wire("near");
    let options = site.options(&["far"], EXPERIMENT);
    let recording = site.start(options.clone());
    near.sendpacket(experiment(0)).unwrap();
    site.wait_for(1);
    drop(recording);
    wait_until(|| options.file.exists(), || "the file was not finished".into());
    assert_eq!(read(&options.file).packets.len(), 1);
    wait_until(|| Arc::strong_count(&site.seen) == 1, || "the thread still holds the sink".into());
}

struct Broken;

impl PacketSink for Broken {
    fn packet(&mut self, packet: &Packet<'_>) {
        assert!(packet.number < 3, "this sink breaks at packet 3");
    }
}

#[test]
fn a_sink_that_panics_ends_the_recording_and_keeps_the_file() {
    let site = Site::new();
    let mut near = wire("near");
    let sink = Arc::new(Mutex::new(Broken));
    let recording = start(site.options(&["far"], EXPERIMENT), Arc::clone(&sink)).unwrap();
    for number in 0..5 {
        near.sendpacket(experiment(number)).unwrap();
    }
    wait_until(|| sink.is_poisoned(), || "the sink did not panic".into());
    let report = recording.stop();
    assert!(report.problem.as_ref().is_some_and(|problem| problem.contains("breaks at packet 3")), "{report:?}");
    assert_eq!(read(&file_of(&report)).packets.len() as u64, report.packets);
    assert_eq!(report.packets, 3);
}

#[test]
fn a_stuck_sink_does_not_hold_up_the_stop_for_ever() {
    let site = Site::new();
    let mut near = wire("near");
    let recording = site.start(site.options(&["far"], EXPERIMENT));
    let seen = Arc::clone(&site.seen);
    let held = seen.lock().unwrap();
    near.sendpacket(experiment(0)).unwrap();
    let report = recording.stop();
    drop(held);
    assert!(report.problem.as_ref().is_some_and(|problem| problem.contains("did not end")), "{report:?}");
}

#[test]
fn without_the_right_the_reason_says_what_to_do() {
    let _site = Site::new();
    assert!(capability().available, "{:?}", capability());
    let child = Command::new("setpriv")
        .args(["--bounding-set", "-net_raw", "--inh-caps", "-net_raw"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "child_without_the_right"])
        .output()
        .expect("the right is dropped with setpriv (of util-linux)");
    let text = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by `without_the_right_the_reason_says_what_to_do`, without CAP_NET_RAW"]
fn child_without_the_right() {
    let capability = capability();
    assert!(!capability.available);
    let reason = capability.reason.unwrap();
    assert!(reason.contains("CAP_NET_RAW") && reason.contains("setcap cap_net_raw+ep"), "{reason}");
    let folder = tempfile::tempdir().unwrap();
    let options = RecordingOptions::new(vec!["lo".into()], String::new(), folder.path().join("a.pcapng"));
    let error = start(options, Arc::new(Mutex::new(Seen::default()))).expect_err("it may capture after all");
    assert!(matches!(&error, CaptureError::Unavailable(text) if *text == reason), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a file was left behind");
}

/// A window with a sink of its own on a capture that does not end.
fn window(file: PathBuf, with_past: bool) -> (WindowOptions, Arc<Mutex<Seen>>) {
    (
        WindowOptions { file, max_bytes: 64 << 20, min_free_bytes: 0, with_past, interfaces: Vec::new(), filter: String::new() },
        Arc::default(),
    )
}

fn continuous(interface: &str, past: Duration) -> Continuous<Seen> {
    Continuous::start(ContinuousOptions {
        interfaces: vec![interface.into()],
        filter: EXPERIMENT.into(),
        snaplen: 65_535,
        buffer_bytes: 8 << 20,
        past,
        past_max_bytes: 16 << 20,
    })
    .unwrap()
}

fn finish(closed: std::sync::mpsc::Receiver<netdiag::capture::ClosedWindow>) -> CaptureReport {
    closed.recv_timeout(PATIENCE).unwrap().finish(true)
}

#[test]
fn no_packet_is_lost_where_windows_overlap() {
    let site = Site::new();
    const WINDOWS: usize = 5;
    const EACH: u32 = 2_000;
    let mut near = wire("near");
    let capture = continuous("far", Duration::ZERO);
    let path = |number: usize| site.folder.path().join(format!("{number}.pcapng"));
    let (options, sink) = window(path(0), false);
    let mut open = vec![(capture.open(options, Arc::clone(&sink)), sink)];
    let mut reports = Vec::new();
    let mut sent = 0;
    let mut send = |count: u32| {
        for _ in 0..count {
            near.sendpacket(experiment(sent)).unwrap();
            sent += 1;
        }
    };
    for number in 1..WINDOWS {
        send(EACH);
        let (options, sink) = window(path(number), false);
        open.push((capture.open(options, Arc::clone(&sink)), sink));
        send(EACH);
        let (older, sink) = open.remove(0);
        reports.push((finish(capture.close(older)), sink));
    }
    send(EACH);
    let (last, sink) = open.remove(0);
    reports.push((finish(capture.close(last)), sink));

    let (mut covered, mut twice) = (vec![0_u32; sent as usize], 0);
    for (report, sink) in &reports {
        assert_eq!((report.problem.as_deref(), report.not_written, report.kernel_dropped), (None, 0, 0), "{report:?}");
        let file = read(&file_of(report));
        assert_eq!(file.packets, sink.lock().unwrap().0, "the file and the sink have the same packets under the same numbers");
        assert_eq!(
            (file.interfaces[0].name.as_deref(), file.interfaces[0].kernel_dropped, file.damage),
            (Some("far"), Some(0), None)
        );
        for (.., data) in &file.packets {
            covered[u32::from_be_bytes(data[14..18].try_into().unwrap()) as usize] += 1;
        }
    }
    for count in &covered {
        assert!((1..=2).contains(count), "a packet is in {count} files");
        twice += u32::from(*count == 2);
    }
    assert!(twice >= EACH * (WINDOWS as u32 - 1), "only {twice} packets are in two files");
}

#[test]
fn a_window_may_begin_in_the_past_and_an_interface_may_go_and_come() {
    let site = Site::new();
    let begun = Instant::now();
    let capture = continuous("far", Duration::from_secs(30));
    let mut near = wire("near");
    for number in 0..100 {
        near.sendpacket(experiment(number)).unwrap();
    }
    let (options, witness) = window(site.folder.path().join("witness.pcapng"), false);
    capture.open(options, Arc::clone(&witness));
    near.sendpacket(experiment(100)).unwrap();
    wait_until(|| witness.lock().unwrap().0.last().is_some_and(|last| last.3 == experiment(100)), || "nothing came".into());
    let (options, sink) = window(site.folder.path().join("flight.pcapng"), true);
    let flight = capture.open(options, Arc::clone(&sink));
    let age = begun.elapsed();
    assert_eq!(sink.lock().unwrap().0.len(), 101, "the past is in the window when it is open");
    drop(near);
    ip("link del near");
    wait_until(|| !capture.interfaces()[0].captured, || "nobody noticed that the interface is gone".into());
    assert!(capture.interfaces()[0].problem.is_some());
    ip("link add near type veth peer name far");
    ip("link set near up");
    ip("link set far up");
    wait_until(|| capture.interfaces()[0].captured, || format!("{:?}", capture.interfaces()));
    let mut near = wire("near");
    for number in 101..150 {
        near.sendpacket(experiment(number)).unwrap();
    }
    wait_until(|| sink.lock().unwrap().0.len() == 150, || "nothing came through the new interface".into());
    let closed = capture.close(flight).recv_timeout(PATIENCE).unwrap();
    assert!(!closed.past().is_zero() && closed.past() <= age, "it says that it goes back {:?}", closed.past());
    let report = closed.finish(true);
    let numbers: Vec<u32> =
        read(&file_of(&report)).packets.iter().map(|(.., data)| u32::from_be_bytes(data[14..18].try_into().unwrap())).collect();
    assert_eq!(numbers, (0..150).collect::<Vec<_>>());
    assert_eq!(capture.ended(), None);
}

#[test]
fn an_outage_is_told_by_the_windows_that_had_it_and_by_no_later_one() {
    let site = Site::new();
    let capture = continuous("far", Duration::ZERO);
    let open = |name: &str| {
        let (options, sink) = window(site.folder.path().join(name), false);
        (capture.open(options, Arc::clone(&sink)), sink)
    };
    let state = || capture.interfaces().remove(0);
    let (had_it, _) = open("had_it.pcapng");
    ip("link set far down");
    wait_until(|| !state().captured, || "nobody noticed that the interface is down".into());
    let (began_in_it, _) = open("began_in_it.pcapng");
    ip("link set far up");
    wait_until(|| state().captured, || format!("{:?}", state()));
    assert_eq!(state().problem, None, "nothing is wrong now");
    let (later, sink) = open("later.pcapng");
    let mut near = wire("near");
    near.sendpacket(experiment(0)).unwrap();
    wait_until(|| !sink.lock().unwrap().0.is_empty(), || "nothing comes".into());
    let error = |window: u64| finish(capture.close(window)).interfaces[0].error.clone();
    for window in [had_it, began_in_it] {
        assert!(error(window).is_some_and(|error| error.starts_with("the interface went down (captured again after ")));
    }
    assert_eq!(error(later), None);
}

#[test]
fn a_window_has_nothing_to_do_with_interfaces_that_were_given_up_before_it() {
    let site = Site::new();
    let capture = continuous("far", Duration::ZERO);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let states = || capture.interfaces().into_iter().map(|state| (state.name, state.captured)).collect::<Vec<_>>();
    ip("link add other type veth peer name another");
    ip("link set other up");
    ip("link set another up");
    capture.set_interfaces(names(&["far", "other"]));
    wait_until(|| states() == [("far".into(), true), ("other".into(), true)], || format!("{:?}", states()));
    let (options, _) = window(site.folder.path().join("both.pcapng"), false);
    let both = capture.open(options, Arc::default());
    capture.set_interfaces(names(&["other"]));
    let (options, sink) = window(site.folder.path().join("one.pcapng"), false);
    let one = capture.open(options, Arc::clone(&sink));
    let mut another = wire("another");
    another.sendpacket(experiment(0)).unwrap();
    wait_until(|| !sink.lock().unwrap().0.is_empty(), || "nothing comes".into());
    let told = |report: &CaptureReport| {
        let interfaces =
            report.interfaces.iter().map(|interface| (interface.name.clone(), interface.packets, interface.error.clone()));
        interfaces.collect::<Vec<_>>()
    };
    let both = finish(capture.close(both));
    assert_eq!(told(&both), [("far".into(), 0, Some("no longer captured".into())), ("other".into(), 1, None)]);
    let one = finish(capture.close(one));
    assert_eq!(told(&one), [("other".into(), 1, None)]);
    let file = read(&file_of(&one));
    assert_eq!(file.interfaces.iter().map(|interface| interface.name.as_deref()).collect::<Vec<_>>(), [Some("other")]);
    assert_eq!((file.interfaces[0].received, file.packets[0].2), (Some(1), 0), "it has a number of its own in each file");
}

#[test]
fn an_interface_that_is_wanted_again_and_is_not_there_says_so() {
    let _site = Site::new();
    let capture = continuous("far", Duration::ZERO);
    capture.set_interfaces(vec!["lo".into()]);
    wait_until(|| capture.interfaces().iter().all(|state| state.name != "far"), || "it is still captured".into());
    ip("link del near");
    capture.set_interfaces(vec!["far".into(), "lo".into()]);
    let problem = || capture.interfaces().into_iter().find(|state| state.name == "far" && !state.captured)?.problem;
    wait_until(|| problem().as_deref() == Some("there is no such interface"), || format!("{:?}", capture.interfaces()));
    ip("link add near type veth peer name far");
    ip("link set near up");
    ip("link set far up");
    wait_until(|| capture.interfaces().iter().all(|state| state.captured), || format!("{:?}", capture.interfaces()));
}

#[test]
fn a_recording_within_another_capture_has_what_it_asked_for_and_outlives_its_owner() {
    let site = Site::new();
    let capture = continuous("far", Duration::ZERO);
    let even = "ether[17] & 1 = 0";
    let sinks: Vec<Arc<Mutex<Seen>>> = vec![Arc::default(), Arc::default(), Arc::default()];
    let path = |name: &str| site.folder.path().join(name);
    let of = |interface: &str, filter: &str, file: &str| RecordingOptions::new(vec![interface.into()], filter.into(), path(file));
    let wanted = Recording::within(capture.clone(), of("far", even, "even.pcapng"), Arc::clone(&sinks[0]));
    let elsewhere = Recording::within(capture.clone(), of("near", "", "elsewhere.pcapng"), Arc::clone(&sinks[1]));
    let dropped = Recording::within(capture.clone(), of("far", "", "dropped.pcapng"), Arc::clone(&sinks[2]));
    drop(capture);
    let mut near = wire("near");
    for number in 0..100 {
        near.sendpacket(experiment(number)).unwrap();
    }
    wait_until(|| sinks[2].lock().unwrap().0.len() == 100, || "the packets did not come".into());
    drop(dropped);
    let report = wanted.stop();
    let file = read(&file_of(&report));
    let numbers: Vec<u32> = file.packets.iter().map(|(.., data)| u32::from_be_bytes(data[14..18].try_into().unwrap())).collect();
    assert_eq!(numbers, (0..100).step_by(2).collect::<Vec<_>>());
    assert_eq!(file.packets, sinks[0].lock().unwrap().0);
    assert_eq!((report.filter.as_deref(), report.problem, report.interfaces.len()), (Some(even), None, 1));
    let report = elsewhere.stop_quickly();
    assert_eq!((report.packets, report.problem), (0, None), "the packets of other interfaces are not taken");
    wait_until(|| path("dropped.pcapng").exists(), || "a recording that nobody waits for is finished all the same".into());
    assert_eq!(read(&path("dropped.pcapng")).packets.len(), 100);
}
