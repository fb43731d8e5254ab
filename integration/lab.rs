//! The simulated site is what it says: each behaviour looked at with plain sockets, each protocol with a third-party peer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use netdiag::lab::{
    Behaviour, CONTROLLER, CONTROLLER_LINK, DeviceSpec, InboundSpec, LIFE_SIGNAL, Namespace, Placement, PollSettings, ROUTER,
    Rejection, Site, SiteBuilder, UNIT_ID,
};
use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::{Echo, peers::Peers, ping, private_network, wait_until};

fn site(devices: Vec<DeviceSpec>) -> Site {
    private_network();
    Site::build(Placement::Namespaces, devices).unwrap()
}

/// Connects from the controller: the outcome, and how long it took.
fn connect(site: &Site, device: &str, limit: Duration) -> (Result<TcpStream, ErrorKind>, Duration) {
    let target = site.device(device).unwrap().socket_address();
    connect_to(site.controller(), target, limit)
}

fn connect_to(namespace: &Namespace, target: SocketAddr, limit: Duration) -> (Result<TcpStream, ErrorKind>, Duration) {
    namespace
        .run(move || {
            let start = Instant::now();
            let outcome = TcpStream::connect_timeout(&target, limit);
            (outcome.map_err(|error| error.kind()), start.elapsed())
        })
        .unwrap()
}

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn ping_device(site: &Site, device: &str) -> Echo {
    ping(site.controller(), site.device(device).unwrap().address(), Duration::from_secs(3))
}

/// Reads one holding register with bytes written by hand (Modbus application protocol, function 3): the value, or the exception.
fn read_register(stream: &mut TcpStream, unit_id: u8, offset: u16) -> Result<u16, u8> {
    let [high, low] = offset.to_be_bytes();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[0, 9, 0, 0, 0, 6, unit_id, 3, high, low, 0, 1]).unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[..4], [0, 9, 0, 0]);
    assert_eq!(head[6], unit_id);
    if head[7] == 0x83 {
        return Err(head[8]);
    }
    assert_eq!(head[7..], [3, 2]);
    let mut value = [0; 2];
    stream.read_exact(&mut value).unwrap();
    Ok(u16::from_be_bytes(value))
}

fn interfaces_here() -> BTreeSet<String> {
    // The first two lines are headings.
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    table.lines().skip(2).map(|line| line.split(':').next().unwrap().trim().to_owned()).collect()
}

#[test]
fn a_healthy_device_answers_for_each_unit_and_its_heartbeat_counts() {
    let site = site(vec![DeviceSpec::modbus("bms_1", Behaviour::Healthy).with_units([1, 11])]);
    let mut stream = connect(&site, "bms_1", PATIENCE).0.unwrap();
    assert_eq!(read_register(&mut stream, 11, UNIT_ID), Ok(11));
    assert_eq!(read_register(&mut stream, 12, UNIT_ID), Err(0x0B));
    let before = read_register(&mut stream, 1, LIFE_SIGNAL).unwrap();
    let mut requests = 3;
    wait_until("the heartbeat counts on", Duration::from_secs(10), || {
        requests += 1;
        read_register(&mut stream, 1, LIFE_SIGNAL).unwrap() > before
    });
    assert_eq!(ping_device(&site, "bms_1"), Echo::Reply);

    let device = site.device("bms_1").unwrap();
    assert_eq!((device.stats().connections, device.stats().open, device.stats().requests), (1, 1, requests));
    drop(stream);
    wait_until("the close is counted as one", Duration::from_secs(1), || {
        device.stats().closed_by_peer == 1 && device.stats().open == 0 && device.stats().broken == 0
    });
}

#[test]
fn a_device_with_room_for_two_says_nothing_to_a_third_until_one_has_left() {
    let site = site(vec![DeviceSpec::modbus("full", Behaviour::Healthy).with_room_for(2)]);
    let limit = Duration::from_millis(1300);
    let mut streams: Vec<_> = (0..2).map(|_| connect(&site, "full", Duration::from_secs(5)).0.unwrap()).collect();
    for _ in 0..2 {
        streams.iter_mut().for_each(|stream| assert_eq!(read_register(stream, 1, UNIT_ID), Ok(1)));
        // More than one SYN and more than one attempt, while the others go on.
        let (outcome, time) = connect(&site, "full", limit);
        assert_eq!(outcome.unwrap_err(), ErrorKind::TimedOut);
        assert!(time >= limit, "{time:?}");
    }
    assert_eq!(ping_device(&site, "full"), Echo::Reply);
    streams.remove(0);
    let device = site.device("full").unwrap();
    wait_until("the device sees that one has left", Duration::from_secs(5), || device.stats().open == 1);
    let mut another = connect(&site, "full", Duration::from_secs(5)).0.unwrap();
    assert_eq!(read_register(&mut another, 1, UNIT_ID), Ok(1));
    assert_eq!(connect(&site, "full", limit).0.unwrap_err(), ErrorKind::TimedOut);
    assert_eq!((device.stats().connections, device.stats().open), (3, 2));
}

#[test]
fn refuses_drops_and_resets_are_three_things() {
    let site = site(vec![
        DeviceSpec::modbus("refuses", Behaviour::RefusesPort),
        DeviceSpec::modbus("drops", Behaviour::DropsConnections),
        DeviceSpec::dnp3("resets", Behaviour::ResetsOnAccept),
    ]);
    let (outcome, _) = connect(&site, "refuses", Duration::from_secs(5));
    assert_eq!(outcome.unwrap_err(), ErrorKind::ConnectionRefused);
    assert_eq!(ping_device(&site, "refuses"), Echo::Reply);

    let (outcome, _) = connect(&site, "resets", Duration::from_secs(5));
    // The reset may be here before the connect is told to have opened.
    let broken = outcome.map_or_else(|kind| kind, |mut stream| stream.read(&mut [0]).unwrap_err().kind());
    assert_eq!(broken, ErrorKind::ConnectionReset);

    // More than one SYN and more than one attempt: it stays so.
    for _ in 0..2 {
        let (outcome, time) = connect(&site, "drops", Duration::from_millis(1300));
        assert_eq!(outcome.unwrap_err(), ErrorKind::TimedOut);
        assert!(time >= Duration::from_millis(1300), "{time:?}");
    }
    assert_eq!(ping_device(&site, "drops"), Echo::Reply);
}

#[test]
fn an_address_nobody_has_is_host_unreachable_after_three_seconds() {
    let site = site(vec![DeviceSpec::modbus("gone", Behaviour::NoArp)]);
    let (outcome, time) = connect(&site, "gone", Duration::from_secs(30));
    assert_eq!(outcome.unwrap_err(), ErrorKind::HostUnreachable);
    assert!(time >= Duration::from_millis(2500), "{time:?}");
    let neighbours = site.controller().run(|| fs::read_to_string("/proc/thread-self/net/arp").unwrap()).unwrap();
    let gone = site.device("gone").unwrap().address().to_string();
    let entry = neighbours.lines().find(|line| line.starts_with(&gone)).unwrap_or_default();
    assert!(!entry.contains("0x2"), "the kernel has an ARP answer: {entry}");
}

#[test]
fn a_router_rejects_with_its_own_icmp_code_and_passes_on_the_rest() {
    let site = site(vec![
        DeviceSpec::modbus("prohibited", Behaviour::Rejected(Rejection::Prohibited)),
        DeviceSpec::modbus("unreachable", Behaviour::Rejected(Rejection::HostUnreachable)),
        DeviceSpec::modbus("swallowed", Behaviour::Rejected(Rejection::Blackhole)),
        DeviceSpec::modbus("far", Behaviour::Healthy).behind_router(),
    ]);
    let router = ROUTER.into();
    for (device, code) in [("prohibited", 13), ("unreachable", 1)] {
        let (outcome, _) = connect(&site, device, Duration::from_secs(30));
        assert_eq!(outcome.unwrap_err(), ErrorKind::HostUnreachable, "{device}");
        assert_eq!(ping_device(&site, device), Echo::Unreachable(code, router), "{device}");
    }
    assert_eq!(connect(&site, "swallowed", Duration::from_millis(600)).0.unwrap_err(), ErrorKind::TimedOut);
    let mut far = connect(&site, "far", PATIENCE).0.unwrap();
    assert_eq!(read_register(&mut far, 1, UNIT_ID), Ok(1));
}

#[test]
fn a_device_that_blocks_ping_serves_all_the_same() {
    let site = site(vec![DeviceSpec::modbus("quiet", Behaviour::BlocksPing)]);
    assert_eq!(ping_device(&site, "quiet"), Echo::Nothing);
    let mut stream = connect(&site, "quiet", PATIENCE).0.unwrap();
    assert_eq!(read_register(&mut stream, 1, UNIT_ID), Ok(1));
}

#[test]
fn slow_silent_and_refusing_devices_are_so_on_the_wire() {
    let site = site(vec![
        DeviceSpec::modbus("slow", Behaviour::Slow(Duration::from_millis(400))),
        DeviceSpec::modbus("silent", Behaviour::NeverAnswers),
        DeviceSpec::modbus("faulty", Behaviour::Exceptions { registers: 20..=29, code: 4 }),
    ]);
    let mut slow = connect(&site, "slow", PATIENCE).0.unwrap();
    let start = Instant::now();
    assert_eq!(read_register(&mut slow, 1, UNIT_ID), Ok(1));
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());

    let mut silent = connect(&site, "silent", PATIENCE).0.unwrap();
    silent.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    silent.write_all(&[0, 9, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1]).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(site.device("silent").unwrap().stats().requests, 1);

    let mut faulty = connect(&site, "faulty", PATIENCE).0.unwrap();
    assert_eq!(read_register(&mut faulty, 1, 19), Ok(191));
    assert_eq!(read_register(&mut faulty, 1, 20), Err(4));
}

#[test]
fn live_sessions_keep_one_connection_and_count_what_happens() {
    let settings =
        PollSettings { period: Duration::from_millis(50), timeout: Duration::from_millis(300), ..PollSettings::default() };
    private_network();
    let site = SiteBuilder::new(Placement::Namespaces)
        .device(DeviceSpec::modbus("bms_1", Behaviour::Healthy).with_units([1, 2]).with_session())
        .device(DeviceSpec::modbus("faulty", Behaviour::Exceptions { registers: 20..=29, code: 4 }).with_session())
        .device(DeviceSpec::modbus("silent", Behaviour::NeverAnswers).with_session())
        .inbound(InboundSpec::modbus("fleet", 1502))
        .inbound(InboundSpec::modbus("forgotten", 1503).not_started())
        .polling(settings)
        .build()
        .unwrap();
    assert!(site.wait_for_sessions(PATIENCE));
    wait_until("each session shows what it is for", Duration::from_secs(3), || {
        let session = |name| site.device(name).unwrap().session().unwrap();
        session("bms_1").answers >= 8 && session("faulty").exceptions >= 3 && session("silent").timeouts >= 2
    });
    for name in ["bms_1", "faulty", "silent"] {
        let (session, device) = (site.device(name).unwrap().session().unwrap(), site.device(name).unwrap().stats());
        assert!(session.connected, "{name}: {session:?}");
        assert_eq!((session.connects, session.disconnects, device.connections), (1, 0, 1), "{name}: {session:?}");
    }
    let fleet = &site.inbound()[0];
    assert_eq!(fleet.socket_address(), "0.0.0.0:1502".parse().unwrap());
    assert!(fleet.stats().requests > 0 && fleet.stats().connections == 1, "{:?}", fleet.stats());
    wait_until("nobody listens for the forgotten one", Duration::from_secs(2), || {
        site.inbound()[1].remote().unwrap().failed_connects > 0
    });
}

#[test]
fn a_pulled_cable_silences_a_device_until_it_is_plugged_in_again() {
    let site = site(vec![DeviceSpec::modbus("bms_1", Behaviour::Healthy)]);
    assert_eq!(ping_device(&site, "bms_1"), Echo::Reply);
    site.set_cable("bms_1", false).unwrap();
    assert_ne!(ping_device(&site, "bms_1"), Echo::Reply);
    site.set_cable("bms_1", true).unwrap();
    wait_until("it answers again", Duration::from_secs(4), || ping_device(&site, "bms_1") == Echo::Reply);
}

#[test]
fn nothing_is_left_behind_and_the_same_network_can_have_another_site() {
    let outside = interfaces_here();
    let inside = thread::spawn(|| {
        private_network();
        let pristine = interfaces_here();
        for _ in 0..2 {
            let site = Site::build(Placement::Namespaces, vec![DeviceSpec::modbus("bms_1", Behaviour::Healthy)]).unwrap();
            assert!(interfaces_here().contains(CONTROLLER_LINK));
            assert_eq!(site.controller_address(), CONTROLLER);
            drop(site);
            assert_eq!(interfaces_here(), pristine);
        }
    });
    inside.join().unwrap();
    assert_eq!(interfaces_here(), outside);
}

#[test]
fn a_network_that_is_in_use_is_not_built_in() {
    private_network();
    let first = Site::build(Placement::Namespaces, Vec::new()).unwrap();
    let refused = Site::build(Placement::Namespaces, Vec::new()).unwrap_err().to_string();
    assert!(refused.contains(CONTROLLER_LINK) && refused.contains("enter_private"), "{refused}");
    drop(first);
}

#[test]
fn on_loopback_the_devices_are_the_same_and_what_cannot_be_is_named() {
    private_network();
    let site = Site::build(
        Placement::Loopback,
        vec![
            DeviceSpec::modbus("bms_1", Behaviour::Healthy),
            DeviceSpec::modbus("refuses", Behaviour::RefusesPort),
            DeviceSpec::modbus("drops", Behaviour::DropsConnections),
            DeviceSpec::modbus("gone", Behaviour::NoArp),
            DeviceSpec::modbus("quiet", Behaviour::BlocksPing),
            DeviceSpec::modbus("far", Behaviour::Healthy).behind_router(),
        ],
    )
    .unwrap();
    let left_out: Vec<_> = site.left_out().iter().map(|left_out| left_out.name.as_str()).collect();
    assert_eq!(left_out, ["gone", "quiet", "far"]);
    assert_eq!(site.device("bms_1").unwrap().socket_address(), "127.0.0.2:10502".parse().unwrap());
    let mut stream = connect(&site, "bms_1", PATIENCE).0.unwrap();
    assert_eq!(read_register(&mut stream, 1, UNIT_ID), Ok(1));
    assert_eq!(connect(&site, "refuses", PATIENCE).0.unwrap_err(), ErrorKind::ConnectionRefused);
    assert_eq!(connect(&site, "drops", Duration::from_millis(600)).0.unwrap_err(), ErrorKind::TimedOut);

    // A second site on the same loopback takes other ports.
    let second = Site::build(Placement::Loopback, vec![DeviceSpec::modbus("bms_1", Behaviour::Healthy)]).unwrap();
    assert_ne!(second.device("bms_1").unwrap().socket_address(), site.device("bms_1").unwrap().socket_address());
    assert!(connect(&second, "bms_1", PATIENCE).0.is_ok());
}

#[test]
fn an_outstation_throws_the_first_master_out_when_a_second_comes_and_counts_it() {
    let settings = PollSettings { period: Duration::from_millis(100), ..PollSettings::default() };
    private_network();
    let site = SiteBuilder::new(Placement::Namespaces)
        .device(DeviceSpec::dnp3("relay", Behaviour::Healthy).with_session())
        .device(DeviceSpec::dnp3("left_alone", Behaviour::Healthy).reporting_every(Duration::from_millis(100)).with_session())
        .polling(settings)
        .build()
        .unwrap();
    assert!(site.wait_for_sessions(PATIENCE));
    let relay = site.device("relay").unwrap();
    assert_eq!((relay.stats().connections, relay.stats().thrown_out), (1, 0));

    let intruder = connect(&site, "relay", PATIENCE).0.unwrap();
    wait_until("the master is thrown out", Duration::from_secs(1), || relay.session().unwrap().disconnects == 1);
    assert_eq!((relay.stats().connections, relay.stats().thrown_out), (2, 1));
    drop(intruder);
    wait_until("the master is back", Duration::from_secs(3), || {
        let session = relay.session().unwrap();
        session.connected && session.connects == 2 && relay.stats().open == 1
    });

    let (session, device) = (site.device("left_alone").unwrap().session().unwrap(), site.device("left_alone").unwrap().stats());
    assert_eq!((session.connects, session.disconnects, session.timeouts), (1, 0, 0));
    assert!(session.answers >= 3, "{session:?}");
    assert_eq!((device.connections, device.open, device.thrown_out, device.broken), (1, 1, 0, 0));
}

#[test]
fn the_outstation_satisfies_a_third_party_master() {
    let Some(peers) = Peers::find() else { return };
    let site = site(vec![DeviceSpec::dnp3("relay", Behaviour::Healthy).reporting_every(Duration::from_millis(300))]);
    let relay = site.device("relay").unwrap();
    let master = peers.start(site.controller(), "dnp3_master.py", relay.socket_address(), &["--period-ms", "200"]);
    let limit = Duration::from_secs(5);
    for kind in ["STARTUP_INTEGRITY_POLL", "CLEAR_RESTART", "ENABLE_UNSOLICITED", "USER_TASK"] {
        let task = master.wait_for(kind, limit, |event| event["event"] == "task" && event["kind"] == kind);
        assert_eq!(task["result"], "SUCCESS", "{task}");
    }
    let points = master.wait_for("points", limit, |event| event["event"] == "analogs");
    let indexes: Vec<_> = points["values"].as_array().unwrap().iter().map(|point| point[0].as_u64().unwrap()).collect();
    assert_eq!((indexes.as_slice(), &points["values"][3][1]), ([0, 1, 2, 3].as_slice(), &3000.0.into()));
    master.wait_for("a report", limit, |event| event["event"] == "fragment" && event["unsolicited"] == true);
    master.wait_for("link status", limit, |event| event["event"] == "link_status" && event["ok"] == true);
    assert_eq!((master.channel_states("OPEN"), master.channel_states("CLOSED")), (1, 0));
    assert_eq!(master.count(|event| event["event"] == "task" && event["result"] != "SUCCESS"), 0, "{:#?}", master.events());
    assert_eq!((relay.stats().connections, relay.stats().broken), (1, 0));

    // A second connect is seen by the real master as a lost channel.
    drop(connect(&site, "relay", PATIENCE).0.unwrap());
    master.wait_for("the loss of its channel", limit, |event| event["event"] == "channel" && event["state"] == "CLOSED");
    // Once for the master; once more for the intruder, if the master was back before it had left.
    assert!(relay.stats().thrown_out >= 1, "{:?}", relay.stats());
}

#[test]
fn the_master_satisfies_a_third_party_outstation_and_its_session_stays_up() {
    let Some(peers) = Peers::find() else { return };
    private_network();
    let site = SiteBuilder::new(Placement::Namespaces)
        .device(DeviceSpec::dnp3("relay", Behaviour::Hosted).reporting_every(Duration::from_secs(1)).with_session())
        .polling(PollSettings {
            period: Duration::from_millis(100),
            reconnect_after: Duration::from_millis(100),
            ..PollSettings::default()
        })
        .build()
        .unwrap();
    let relay = site.device("relay").unwrap();
    let host = relay.namespace().unwrap();
    let outstation = peers.start(host, "dnp3_outstation.py", relay.socket_address(), &["--unsolicited"]);
    wait_until("the master has had its answers", Duration::from_secs(5), || relay.session().unwrap().answers >= 5);
    outstation.wait_for("a confirmed report", Duration::from_secs(5), |event| {
        event["event"] == "confirmed" && event["unsolicited"] == true
    });
    let session = relay.session().unwrap();
    assert!(session.connected, "{session:?}");
    assert_eq!((session.connects, session.disconnects, session.timeouts), (1, 0, 0));
    assert_eq!((outstation.channel_states("OPEN"), outstation.channel_states("CLOSED")), (1, 0));
}

#[test]
fn the_poller_satisfies_a_third_party_modbus_server_and_a_peer_ends_with_its_handle() {
    let Some(peers) = Peers::find() else { return };
    private_network();
    let site = SiteBuilder::new(Placement::Namespaces)
        .device(DeviceSpec::modbus("meter", Behaviour::Hosted).with_units([1, 5]).with_session())
        .polling(PollSettings {
            period: Duration::from_millis(100),
            reconnect_after: Duration::from_millis(100),
            ..PollSettings::default()
        })
        .build()
        .unwrap();
    let meter = site.device("meter").unwrap();
    let server =
        peers.start(meter.namespace().unwrap(), "modbus_server.py", meter.socket_address(), &["--unit", "1", "--unit", "5"]);
    wait_until("the poller has had its answers", Duration::from_secs(5), || meter.session().unwrap().answers >= 6);
    server.wait_for("a request for unit 5", Duration::from_secs(2), |event| event["event"] == "request" && event["unit"] == 5);
    assert_eq!((meter.session().unwrap().connects, meter.session().unwrap().exceptions), (1, 0));
    let mut stream = connect(&site, "meter", PATIENCE).0.unwrap();
    assert_eq!(read_register(&mut stream, 5, 42), Ok(42));
    let id = server.id();
    assert!(support::peers::is_running(id));
    drop(server);
    assert!(!support::peers::is_running(id));
}

/// What the next test kills: not a test, but a process of this binary with a site and a peer in it.
#[test]
#[ignore = "the part of `a_killed_process_leaves_nothing_behind` that is killed"]
fn a_process_to_be_killed() {
    let peers = Peers::find().unwrap();
    let site = site(vec![DeviceSpec::dnp3("relay", Behaviour::Hosted).behind_router().with_session()]);
    let relay = site.device("relay").unwrap();
    let outstation = peers.start(relay.namespace().unwrap(), "dnp3_outstation.py", relay.socket_address(), &[]);
    println!("\npeer {}", outstation.id());
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_process_leaves_nothing_behind() {
    if Peers::find().is_none() {
        return;
    }
    let before = interfaces_here();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_process_to_be_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let peer: u32 = lines.filter_map(|line| line.strip_prefix("peer ")?.parse().ok()).next().expect("the child tells its peer");
    assert!(support::peers::is_running(peer));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the peer ends by itself", Duration::from_secs(3), || !support::peers::is_running(peer));
    assert_eq!(interfaces_here(), before);
}
