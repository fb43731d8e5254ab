//! Probes against real peers in network namespaces. Needs root.

// A helper of a test that cannot do its work is a test that fails.
#![allow(clippy::expect_used, clippy::panic)]

#[path = "probe/namespace.rs"]
mod namespace;
#[path = "probe/wire.rs"]
mod wire;

use namespace::Namespace;
use netdiag::{
    api::{ConnectState, Direction, GreetingState},
    probe::{ConnectOutcome, Network, NetworkProber, PingOutcome, Prober, Service, sockets},
};
use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
    thread,
    time::{Duration, Instant},
};
use wire::{Segment, Wire};

/// How long an answer may take; a machine that stalls for less fails no test.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// The kernel asks again after a second; here once is enough.
const SHORT_TIMEOUT: Duration = Duration::from_millis(700);
/// Long enough for the kernel to give up ARP, which takes it 3.06 s.
const LONG_TIMEOUT: Duration = Duration::from_secs(6);

const DEVICE: &str = "10.0.0.2";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn device(port: u16) -> SocketAddr {
    SocketAddr::new(ip(DEVICE), port)
}

/// A controller at 10.0.0.1 and a device at 10.0.0.2, on one link.
fn controller_and_device() -> (Namespace, Namespace) {
    let (controller, device) = (Namespace::new(), Namespace::new());
    controller.link_to(&device, "eth0", "10.0.0.1/24", "10.0.0.2/24");
    (controller, device)
}

fn listen(namespace: &Namespace, address: &str) -> TcpListener {
    let address: SocketAddr = address.parse().expect("an address and port");
    namespace.run(move || TcpListener::bind(address).expect("a listener"))
}

/// Serves one connection on the device's port 502.
fn serve<T: Send + 'static>(namespace: &Namespace, service: impl FnOnce(TcpStream) -> T + Send + 'static) -> thread::JoinHandle<T> {
    let listener = listen(namespace, "10.0.0.2:502");
    thread::spawn(move || service(listener.accept().expect("a connection").0))
}

/// Reads until the client's FIN.
fn read_to_end(mut stream: &TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the client closes with a FIN, not with a reset");
}

fn connect(from: &Namespace, target: SocketAddr, timeout: Duration) -> ConnectOutcome {
    from.block_on(move || async move { NetworkProber::new().connect(target, timeout).await })
}

fn ping(from: &Namespace, address: &str, timeout: Duration) -> PingOutcome {
    let address = ip(address);
    from.block_on(move || async move { NetworkProber::new().ping(address, 1, timeout).await })
}

fn unreachable_from(router: &str, icmp_type: u8, icmp_code: u8) -> PingOutcome {
    PingOutcome::Unreachable { from: ip(router), icmp_type, icmp_code }
}

/// How often the end at `local` sent a FIN and a RST.
fn fins_and_resets(segments: &[Segment], local: SocketAddr) -> (usize, usize) {
    let sent = |what: fn(&Segment) -> bool| segments.iter().filter(|segment| segment.source == local && what(segment)).count();
    assert_eq!(sent(Segment::syn), 1, "the reported local address is the one on the wire: {segments:?}");
    (sent(Segment::fin), sent(Segment::rst))
}

#[test]
fn an_open_port_is_closed_with_a_fin_and_without_a_reset() {
    let (controller, plant) = controller_and_device();
    let server = serve(&plant, |stream| read_to_end(&stream));
    let wire = Wire::listen(&controller, "eth0");
    let outcome = connect(&controller, device(502), TIMEOUT);
    assert_eq!((outcome.state, &outcome.detail), (ConnectState::Open, &None));
    assert!(outcome.time < TIMEOUT, "{:?}", outcome.time);
    let local = outcome.local_address.expect("a local address");
    assert_eq!(local.ip(), ip("10.0.0.1"));
    server.join().expect("the server saw a clean end");
    assert_eq!(fins_and_resets(&wire.heard(local), local), (1, 0));
}

#[test]
fn a_device_that_talks_first_is_heard_out() {
    let (controller, plant) = controller_and_device();
    let server = serve(&plant, |mut stream| {
        stream.write_all(b"220 plant controller\r\n").expect("a greeting");
        read_to_end(&stream);
        // It says good-bye after our FIN; a client that had closed already would answer with a reset.
        stream.write_all(&[0; 4000]).expect("a farewell");
        thread::sleep(Duration::from_millis(50));
        stream.write_all(&[0; 4000]).expect("a second farewell");
    });
    let wire = Wire::listen(&controller, "eth0");
    let outcome = connect(&controller, device(502), TIMEOUT);
    assert_eq!(outcome.state, ConnectState::Open);
    assert_eq!(outcome.detail.as_deref(), Some("the device sent 22 bytes unasked"));
    server.join().expect("the server could say all it wanted");
    let local = outcome.local_address.expect("a local address");
    let segments = wire.heard(local);
    assert_eq!(fins_and_resets(&segments, local), (1, 0));
    assert!(!segments.iter().any(Segment::rst), "{segments:?}");
}

#[test]
fn a_web_server_is_asked_for_its_status_line_and_left_with_a_fin() {
    let (controller, plant) = controller_and_device();
    let server = serve(&plant, |mut stream| {
        let mut request = [0; 512];
        let length = stream.read(&mut request).expect("a request");
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nServer: inverter\r\n\r\n").expect("an answer");
        read_to_end(&stream);
        request
    });
    let wire = Wire::listen(&controller, "eth0");
    let outcome = controller.block_on(|| async { NetworkProber::new().greet(device(502), Service::Http, TIMEOUT).await });
    assert_eq!((outcome.state, &outcome.detail), (ConnectState::Open, &None));
    let greeting = outcome.greeting.expect("a greeting");
    assert_eq!((greeting.state, greeting.text.as_deref()), (GreetingState::Answered, Some("HTTP/1.1 401 Unauthorized")));
    let request = server.join().expect("the server saw a clean end");
    assert!(request.starts_with("HEAD / HTTP/1.1\r\nHost: 10.0.0.2:502\r\n") && request.ends_with("\r\n\r\n"), "{request}");
    let local = outcome.local_address.expect("a local address");
    assert_eq!(fins_and_resets(&wire.heard(local), local), (1, 0));
}

#[test]
fn a_service_that_says_nothing_is_waited_for_and_left_with_a_fin() {
    let (controller, plant) = controller_and_device();
    let server = serve(&plant, |stream| read_to_end(&stream));
    let wire = Wire::listen(&controller, "eth0");
    let outcome = controller.block_on(|| async { NetworkProber::new().greet(device(502), Service::Ssh, TIMEOUT).await });
    assert_eq!(outcome.state, ConnectState::Open);
    let greeting = outcome.greeting.expect("a greeting");
    assert_eq!((greeting.state, greeting.text), (GreetingState::Silent, None));
    assert!(greeting.time_ms >= 1500.0 && outcome.time < TIMEOUT, "the wait is no part of the connect's time");
    server.join().expect("the server saw a clean end");
    let local = outcome.local_address.expect("a local address");
    assert_eq!(fins_and_resets(&wire.heard(local), local), (1, 0));
}

#[test]
fn a_device_that_never_closes_holds_us_up_for_a_bounded_time() {
    let (controller, plant) = controller_and_device();
    let server = serve(&plant, |stream| {
        thread::sleep(Duration::from_secs(4));
        read_to_end(&stream);
    });
    let wire = Wire::listen(&controller, "eth0");
    let began = Instant::now();
    let outcome = connect(&controller, device(502), TIMEOUT);
    let took = began.elapsed();
    assert_eq!(outcome.state, ConnectState::Open);
    assert!(outcome.detail.expect("a detail").contains("did not close its side"));
    assert!((Duration::from_millis(500)..Duration::from_secs(3)).contains(&took), "{took:?}");
    server.join().expect("the server saw our FIN");
    let local = outcome.local_address.expect("a local address");
    assert_eq!(fins_and_resets(&wire.heard(local), local), (1, 0));
}

#[test]
fn a_connection_that_the_device_breaks_at_once_is_told_from_one_that_it_breaks_on_our_close() {
    let (controller, plant) = controller_and_device();
    let reset = |stream: &TcpStream| socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("linger");
    let server = serve(&plant, move |stream| reset(&stream));
    let outcome = connect(&controller, device(502), TIMEOUT);
    assert_eq!(outcome.state, ConnectState::Reset);
    assert!(outcome.local_address.is_some());
    server.join().expect("the server");

    let server = serve(&plant, move |stream| {
        read_to_end(&stream);
        reset(&stream);
    });
    let outcome = connect(&controller, device(502), TIMEOUT);
    assert_eq!(
        (outcome.state, outcome.detail.as_deref()),
        (ConnectState::Open, Some("the device answered our close with a reset"))
    );
    server.join().expect("the server");

    let server = serve(&plant, drop);
    let outcome = connect(&controller, device(502), TIMEOUT);
    assert_eq!((outcome.state, outcome.detail.as_deref()), (ConnectState::Open, Some("the device closed the connection at once")));
    server.join().expect("the server");
}

#[test]
fn a_cancelled_connect_closes_with_a_fin_even_over_unread_bytes() {
    let (controller, plant) = controller_and_device();
    let attempt = || {
        let server = serve(&plant, |mut stream| {
            // Late enough that nobody polls the connect any more.
            thread::sleep(Duration::from_millis(40));
            stream.write_all(&[0; 4000]).expect("a greeting");
            read_to_end(&stream);
        });
        let wire = Wire::listen(&controller, "eth0");
        let table = controller.block_on(|| async {
            let prober = NetworkProber::new();
            let mut attempt = prober.connect(device(502), TIMEOUT);
            // Polled until the connection is up, then left alone while the greeting comes, then dropped.
            let is_watching = tokio::time::timeout(Duration::from_millis(5), &mut attempt).await.is_err();
            thread::sleep(Duration::from_millis(100));
            let view = sockets().expect("the socket table").view(Direction::Outbound, Some(ip(DEVICE)), 502, &[]);
            drop(attempt);
            let table = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("the socket table");
            (is_watching && view.established == 1).then_some(table)
        });
        Some((server, wire, table?))
    };
    // A machine that stalls may let the few milliseconds pass in which the connection is up and watched.
    let held = (0..10).find_map(|_| attempt());
    let (server, wire, table) = held.expect("it is still watching the connection");
    assert!(table.contains(" 0200000A:01F6 "), "the connection is still being closed: {table}");
    server.join().expect("the server saw a clean end");
    let segments = wire.heard(device(502));
    assert_eq!(segments.iter().filter(|segment| segment.fin()).count(), 2, "{segments:?}");
    // Where both close at once, the device's kernel may answer the last acknowledgement with a reset; that is not ours.
    let ours = |segment: &&Segment| segment.destination == device(502);
    assert!(!segments.iter().filter(ours).any(Segment::rst), "{segments:?}");
}

#[test]
fn a_closed_port_refuses_on_the_link_and_on_loopback() {
    let (controller, _plant) = controller_and_device();
    let wire = Wire::listen(&controller, "eth0");
    let outcome = connect(&controller, device(503), TIMEOUT);
    assert_eq!(outcome.state, ConnectState::Refused);
    let local = outcome.local_address.expect("a local address");
    assert_eq!(fins_and_resets(&wire.heard(local), local), (0, 0));
    for (target, own) in [("127.0.0.1:503", "127.0.0.1"), ("[::1]:503", "::1")] {
        let outcome = connect(&controller, target.parse().expect("a target"), TIMEOUT);
        assert_eq!(outcome.state, ConnectState::Refused, "{target}");
        assert_eq!(outcome.local_address.expect("a local address").ip(), ip(own));
    }
}

#[test]
fn a_full_accept_queue_times_out_and_the_attempt_shows_in_the_socket_table() {
    let (controller, plant) = controller_and_device();
    let listener = plant.run(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&device(502).into()).expect("bound");
        socket.listen(0).expect("listening");
        socket
    });
    // A queue of length 0 takes one connection.
    let first = controller.run(|| TcpStream::connect(device(502)).expect("the first connection"));
    let wire = Wire::listen(&controller, "eth0");
    let (outcome, during) = controller.block_on(|| async {
        let prober = NetworkProber::new();
        let look = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            sockets().expect("the socket table").view(Direction::Outbound, Some(ip(DEVICE)), 502, &[])
        };
        tokio::join!(prober.connect(device(502), SHORT_TIMEOUT), look)
    });
    assert_eq!((outcome.state, outcome.detail.as_deref()), (ConnectState::TimedOut, Some("no answer within 700 ms")));
    assert!(outcome.time >= SHORT_TIMEOUT && outcome.time < TIMEOUT * 2, "{:?}", outcome.time);
    assert_eq!((during.established, during.connecting), (1, 1));
    let local = outcome.local_address.expect("a local address");
    assert_eq!(fins_and_resets(&wire.heard(local), local), (0, 0));
    drop((listener, first));
}

#[test]
fn a_dead_neighbour_is_unreachable_after_three_seconds() {
    let (controller, _plant) = controller_and_device();
    let (connected, pinged) = controller.block_on(|| async {
        let prober = NetworkProber::new();
        let connect = prober.connect("10.0.0.3:502".parse().expect("a target"), LONG_TIMEOUT);
        tokio::join!(connect, prober.ping(ip("10.0.0.4"), 0, LONG_TIMEOUT))
    });
    assert_eq!(connected.state, ConnectState::Unreachable, "{connected:?}");
    assert!(connected.time >= Duration::from_secs(3), "{:?}", connected.time);
    assert_eq!(connected.local_address.expect("a local address").ip(), ip("10.0.0.1"));
    assert_eq!(pinged, unreachable_from("10.0.0.1", 3, 1), "this host's own kernel says so");
}

#[test]
fn hundreds_of_dead_neighbours_hold_nobody_up() {
    let (controller, _plant) = controller_and_device();
    let (dead, alive, slowest) = controller.block_on(|| async {
        let prober = NetworkProber::new();
        let pings_to_the_dead = futures::future::join_all((3..253).flat_map(|host| {
            let prober = &prober;
            (0..3).map(move |sequence| prober.ping(IpAddr::from([10, 0, 0, host]), sequence, LONG_TIMEOUT))
        }));
        let pings_to_the_living = async {
            let mut slowest = Duration::ZERO;
            let mut answers = Vec::new();
            for sequence in 0..20 {
                let began = Instant::now();
                answers.push(prober.ping(ip(DEVICE), sequence, TIMEOUT).await);
                slowest = slowest.max(began.elapsed());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (answers, slowest)
        };
        let (dead, (alive, slowest)) = tokio::join!(pings_to_the_dead, pings_to_the_living);
        (dead, alive, slowest)
    });
    assert!(alive.iter().all(|outcome| matches!(outcome, PingOutcome::Reply { .. })), "{alive:?}");
    assert!(slowest < TIMEOUT, "{slowest:?}");
    // The kernel tells itself about the first of them by ICMP, and then holds back.
    assert!(dead.iter().all(|outcome| *outcome == PingOutcome::NoAnswer || *outcome == unreachable_from("10.0.0.1", 3, 1)));
}

#[test]
fn a_router_that_forbids_is_named_with_its_code() {
    let (controller, router) = (Namespace::new(), Namespace::new());
    controller.link_to(&router, "eth0", "10.0.0.1/24", "10.0.0.2/24");
    controller.link_to(&router, "eth1", "fd00::1/64", "fd00::2/64");
    controller.ip("route add default via 10.0.0.2");
    controller.ip("-6 route add default via fd00::2");
    router.set("ipv4/ip_forward", "1");
    router.set("ipv6/conf/all/forwarding", "1");
    // A Linux router otherwise sends two or three of its errors and is then silent for a while.
    router.set("ipv4/icmp_ratelimit", "0");
    router.set("ipv6/icmp/ratelimit", "0");
    router.ip("route add prohibit 10.8.0.0/24");
    router.ip("route add unreachable 10.9.0.0/24");
    router.ip("-6 route add prohibit fd08::/64");
    assert_eq!(ping(&controller, "10.8.0.1", TIMEOUT), unreachable_from("10.0.0.2", 3, 13));
    assert_eq!(ping(&controller, "10.9.0.1", TIMEOUT), unreachable_from("10.0.0.2", 3, 1));
    assert_eq!(ping(&controller, "fd08::1", TIMEOUT), unreachable_from("fd00::2", 1, 1));
    for target in ["10.8.0.1:502", "10.9.0.1:502", "[fd08::1]:502"] {
        let outcome = connect(&controller, target.parse().expect("a target"), LONG_TIMEOUT);
        assert_eq!(outcome.state, ConnectState::Unreachable, "{target}: {outcome:?}");
        assert!(outcome.time < Duration::from_secs(3), "{target}: {:?}", outcome.time);
        assert!(outcome.local_address.is_some());
    }
}

#[test]
fn routes_of_this_host_that_forbid_sending_are_told_in_words() {
    let (controller, _plant) = controller_and_device();
    for kind in ["prohibit 10.5.0.0/24", "unreachable 10.6.0.0/24", "blackhole 10.7.0.0/24"] {
        controller.ip(&format!("route add {kind}"));
    }
    for (address, state, words) in [
        ("10.4.0.1", ConnectState::Unreachable, "this host has no route"),
        ("10.5.0.1", ConnectState::Unreachable, "prohibits"),
        ("10.6.0.1", ConnectState::Unreachable, "declares it unreachable"),
        ("10.7.0.1", ConnectState::Error, "blackhole"),
        ("fd01::1", ConnectState::Unreachable, "this host has no route"),
    ] {
        let outcome = connect(&controller, SocketAddr::new(ip(address), 502), TIMEOUT);
        assert_eq!((outcome.state, outcome.local_address), (state, None), "{address}: {outcome:?}");
        assert!(outcome.detail.as_ref().expect("a detail").contains(words), "{address}: {outcome:?}");
        match ping(&controller, address, TIMEOUT) {
            PingOutcome::Error(detail) => assert!(detail.contains(words), "{address}: {detail}"),
            other => panic!("{address}: {other:?}"),
        }
    }
}

#[test]
fn a_ping_is_answered_or_not() {
    let (controller, plant) = controller_and_device();
    controller.link_to(&plant, "eth1", "fd00::1/64", "fd00::2/64");
    for address in [DEVICE, "::ffff:10.0.0.2", "10.0.0.1", "127.0.0.1", "fd00::2", "::1"] {
        match ping(&controller, address, LONG_TIMEOUT) {
            PingOutcome::Reply { rtt } => assert!(!rtt.is_zero() && rtt < LONG_TIMEOUT, "{address}: {rtt:?}"),
            other => panic!("{address}: {other:?}"),
        }
    }
    plant.set("ipv4/icmp_echo_ignore_all", "1");
    plant.set("ipv6/icmp/echo_ignore_all", "1");
    let began = Instant::now();
    assert_eq!(ping(&controller, DEVICE, Duration::from_millis(300)), PingOutcome::NoAnswer);
    assert_eq!(ping(&controller, "fd00::2", Duration::from_millis(300)), PingOutcome::NoAnswer);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_thousand_addresses_answer_through_one_socket() {
    let (controller, plant) = controller_and_device();
    controller.ip("route add 10.1.0.0/16 via 10.0.0.2");
    plant.ip("route add local 10.1.0.0/16 dev lo");
    let (answered, took) = controller.block_on(|| async {
        let prober = NetworkProber::new();
        let began = Instant::now();
        let pings = (0..1000_u32).map(|host| prober.ping(IpAddr::from((0x0A01_0001 + host).to_be_bytes()), 7, LONG_TIMEOUT));
        let outcomes = futures::future::join_all(pings).await;
        (outcomes.iter().filter(|outcome| matches!(outcome, PingOutcome::Reply { .. })).count(), began.elapsed())
    });
    println!("1,000 pings took {took:?}");
    assert_eq!(answered, 1000);
    assert!(took < LONG_TIMEOUT, "{took:?}");
}

#[test]
fn a_redirect_takes_nobodys_place() {
    // The controller sends to one router, which passes the packet on to a second one on the same network and says so.
    let (controller, switch, first, second) = (Namespace::new(), Namespace::new(), Namespace::new(), Namespace::new());
    switch.ip("link add bridge type bridge");
    switch.ip("link set bridge up");
    for (namespace, link, address) in
        [(&controller, "eth0", "10.0.0.1"), (&first, "eth1", "10.0.0.2"), (&second, "eth2", "10.0.0.3")]
    {
        namespace.link_to(&switch, link, &format!("{address}/24"), "169.254.0.1/32");
        switch.ip(&format!("link set {link} master bridge"));
    }
    for router in [&first, &second] {
        router.set("ipv4/ip_forward", "1");
    }
    first.ip("route add 10.9.0.0/24 via 10.0.0.3");
    second.ip("addr add 10.9.0.1/24 dev lo");
    controller.ip("route add 10.9.0.0/24 via 10.0.0.2");
    controller.set("ipv4/conf/all/accept_redirects", "0");
    let answer = ping(&controller, "10.9.0.1", TIMEOUT);
    assert!(matches!(answer, PingOutcome::Reply { .. }), "{answer:?}");
}

#[test]
fn sockets_are_seen_without_a_packet() {
    let (controller, plant) = controller_and_device();
    let inbound = listen(&controller, "[::]:502");
    let outbound = listen(&plant, "10.0.0.2:20000");
    let client = plant.run(|| TcpStream::connect("10.0.0.1:502").expect("connected"));
    let server = inbound.accept().expect("accepted").0;
    let masters: Vec<_> = (0..2).map(|_| controller.run(|| TcpStream::connect("10.0.0.2:20000").expect("connected"))).collect();
    let own = [masters[0].local_addr().expect("an address")];
    let table = controller.run(|| sockets().expect("the socket table"));
    assert_eq!(table.malformed(), 0);
    let listening = table.view(Direction::Inbound, Some(ip("0.0.0.0")), 502, &[]);
    assert!(listening.listening);
    assert_eq!(listening.peers, [client.local_addr().expect("an address")]);
    let all = table.view(Direction::Outbound, Some(ip(DEVICE)), 20000, &[]);
    assert_eq!((all.listening, all.established), (false, 2));
    assert_eq!(table.view(Direction::Outbound, Some(ip(DEVICE)), 20000, &own).established, 1);
    let elsewhere = plant.run(|| sockets().expect("the socket table"));
    assert!(!elsewhere.view(Direction::Inbound, None, 502, &[]).listening, "each thread sees its own network");
    drop((server, outbound));
}

#[test]
fn routes_name_interface_source_and_next_hop() {
    let (controller, plant) = controller_and_device();
    controller.link_to(&plant, "eth1", "fd00::1/64", "fd00::2/64");
    controller.ip("route add 10.1.0.0/16 via 10.0.0.2");
    controller.ip("route add 10.2.0.0/16 via inet6 fd00::2 dev eth1");
    controller.ip("-6 route add fd01::/64 via fd00::2");
    for kind in ["prohibit 10.5.0.0/24", "unreachable 10.6.0.0/24", "blackhole 10.7.0.0/24", "-6 unreachable fd06::/64"] {
        let (family, kind) = kind.strip_prefix("-6 ").map_or(("-4", kind), |kind| ("-6", kind));
        controller.ip(&format!("{family} route add {kind}"));
    }
    let addresses: Vec<IpAddr> = (0..1000_u32).map(|host| IpAddr::from((0x0A01_0000 + host).to_be_bytes())).collect();
    let (routes, many, took) = controller.block_on(|| async move {
        let network = Network::open().await.expect("netlink");
        let mut routes = HashMap::new();
        for address in [
            DEVICE,
            "10.1.2.3",
            "10.2.0.1",
            "10.0.0.1",
            "127.0.0.1",
            "fd00::2",
            "fd01::5",
            "::1",
            "10.4.0.1",
            "10.5.0.1",
            "10.6.0.1",
            "10.7.0.1",
            "10.0.0.255",
            "fd06::1",
            "fd09::1",
        ] {
            routes.insert(address, network.route(ip(address)).await);
        }
        let began = Instant::now();
        let many = network.routes(&addresses).await;
        (routes, many, began.elapsed())
    });
    let good = |address: &str| {
        let route = &routes[address];
        assert_eq!(route.error, None, "{address}");
        (route.interface.as_deref().unwrap_or("none"), route.source, route.gateway, route.is_local)
    };
    assert_eq!(good(DEVICE), ("eth0", Some(ip("10.0.0.1")), None, false));
    assert_eq!(good("10.1.2.3"), ("eth0", Some(ip("10.0.0.1")), Some(ip("10.0.0.2")), false));
    assert_eq!(good("10.2.0.1").2, Some(ip("fd00::2")));
    assert_eq!(good("10.0.0.1"), ("lo", Some(ip("10.0.0.1")), None, true));
    assert_eq!(good("127.0.0.1"), ("lo", Some(ip("127.0.0.1")), None, true));
    assert_eq!(good("fd00::2"), ("eth1", Some(ip("fd00::1")), None, false));
    assert_eq!(good("fd01::5"), ("eth1", Some(ip("fd00::1")), Some(ip("fd00::2")), false));
    assert_eq!((good("::1").0, good("::1").3), ("lo", true));
    for (address, words) in [
        ("10.4.0.1", "no route"),
        ("10.5.0.1", "prohibits"),
        ("10.6.0.1", "unreachable"),
        ("10.7.0.1", "blackhole"),
        ("10.0.0.255", "broadcast"),
        ("fd06::1", "unreachable"),
        ("fd09::1", "no route"),
    ] {
        let error = routes[address].error.as_deref().unwrap_or("none");
        assert!(error.contains(words), "{address}: {error}");
    }
    println!("1,000 routes took {took:?}");
    assert_eq!(many.len(), 1000);
    assert!(many.values().all(|route| route.interface.as_deref() == Some("eth0") && route.gateway == Some(ip("10.0.0.2"))));
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn interfaces_agree_with_what_the_c_library_says() {
    let (controller, plant) = controller_and_device();
    controller.link_to(&plant, "eth1", "fd00::1/64", "fd00::2/64");
    controller.ip("addr add 10.0.3.1/30 dev eth0");
    controller.ip("link set eth0 mtu 1400");
    controller.ip("link add spare type bridge");
    plant.ip("link set eth1 down");
    let interfaces =
        controller.block_on(|| async { Network::open().await.expect("netlink").interfaces().await.expect("interfaces") });
    let expected = controller.run(pnet::datalink::interfaces);
    assert_eq!(interfaces.len(), expected.len());
    for (interface, expected) in interfaces.iter().zip(&expected) {
        let mut addresses: Vec<_> = expected.ips.iter().map(ToString::to_string).collect();
        let mut found = interface.addresses.clone();
        addresses.sort_unstable();
        found.sort_unstable();
        assert_eq!((&interface.name, interface.index, found), (&expected.name, expected.index, addresses));
        assert_eq!((interface.up, interface.running), (expected.is_up(), expected.is_lower_up()), "{}", interface.name);
        let mac = expected.mac.map(|mac| mac.to_string()).filter(|_| !interface.loopback);
        assert_eq!((interface.loopback, &interface.mac), (expected.is_loopback(), &mac), "{}", interface.name);
    }
    let named = |name: &str| interfaces.iter().find(|interface| interface.name == name).expect("the interface");
    assert_eq!((named("eth0").mtu, named("eth0").running), (Some(1400), true));
    assert!(named("eth0").addresses.contains(&"10.0.3.1/30".to_owned()));
    assert_eq!((named("eth1").up, named("eth1").running), (true, false), "its far end is down");
    assert!(!named("spare").up);
    assert!(named("lo").loopback);
}

#[test]
fn the_neighbour_table_tells_who_answered_for_an_address() {
    let (controller, _plant) = controller_and_device();
    let (own, absent) = (ip("10.0.0.2"), ip("10.0.0.99"));
    let table = controller.block_on(move || async move {
        let prober = NetworkProber::new();
        for address in [own, absent] {
            prober.connect((address, 502).into(), Duration::from_millis(300)).await;
        }
        Network::open().await.expect("netlink").neighbours().await.expect("the table")
    });
    let of = |address| table.iter().find(|neighbour| neighbour.address == address).expect("it was asked for");
    assert_eq!((of(own).unanswered, of(own).interface.as_deref()), (false, Some("eth0")));
    assert!(of(absent).unanswered, "{table:?}");
}

/// Without CAP_NET_RAW: this program itself, run as nobody in a network of its own.
#[test]
fn without_the_right_to_ping_the_reason_says_what_to_do() {
    let namespace = Namespace::new();
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("readable by all");
    let program = directory.path().join("probe");
    std::fs::copy(std::env::current_exe().expect("this program"), &program).expect("a copy");
    let run = |program: std::path::PathBuf| {
        namespace.run(move || {
            let mut command = Command::new(program);
            command.args(["--exact", "as_nobody", "--ignored", "--nocapture"]).current_dir("/").uid(65534).gid(65534);
            let output = command.output().expect("it runs");
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
            printed
        })
    };
    let printed = run(program.clone());
    assert!(printed.contains("available: false") && printed.contains("CAP_NET_RAW") && printed.contains("Error("), "{printed}");
    namespace.set("ipv4/ping_group_range", "0 2147483647");
    let printed = run(program);
    assert!(printed.contains("available: true") && printed.contains("datagram") && printed.contains("Reply"), "{printed}");
}

#[test]
#[ignore = "run by the test above, as another user"]
fn as_nobody() {
    let prober = NetworkProber::new();
    println!("before {:?}", prober.ping_capability());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!("{:?}", runtime.block_on(prober.ping(ip("127.0.0.1"), 0, TIMEOUT)));
    println!("after {:?}", prober.ping_capability());
}

#[test]
fn as_root_pings_go_by_a_raw_socket() {
    let capability = NetworkProber::new().ping_capability();
    assert!(capability.available);
    assert_eq!(capability.reason.as_deref(), Some("raw ICMP socket"));
}
