//! A connectivity test of 1,000 endpoints, a third of them dead: what it costs this host, and how long it takes on real sockets.
//!
//! `cargo bench --bench connectivity`

#![allow(clippy::unwrap_used, clippy::expect_used)]

use divan::Bencher;
use netdiag::{
    analysis::AnalysisSettings,
    api::{Capabilities, Capability, ConnectState, ConnectivityRequest, DegradedFrom, ExtraEndpoint, Protocol},
    connectivity::{Edges, TestInput, plan, run},
    probe::{FakeProber, NetworkProber, Prober, SocketTable, sockets},
};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

const ENDPOINTS: u16 = 1000;

fn main() {
    divan::main();
}

fn input(request: ConnectivityRequest) -> TestInput {
    let capability = Capability { available: true, reason: None };
    TestInput {
        job_id: "bench".to_owned(),
        plan: plan(&request, &[]).unwrap(),
        request,
        capabilities: Capabilities { ping: capability.clone(), capture: capability },
        local_addresses: Vec::new(),
        heartbeats: Vec::new(),
        recording: None,
        analysis: AnalysisSettings::default(),
        slow_connect_ms: 500,
        degraded_from: DegradedFrom::default(),
    }
}

fn is_dead(number: u16) -> bool {
    number.is_multiple_of(3)
}

/// Address and port of each endpoint: 127.1.0.0/16 for those that live, the other port for the dead.
fn targets(alive: u16, dead: u16) -> Vec<SocketAddr> {
    (0..ENDPOINTS)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            (Ipv4Addr::new(127, 1, high, low), if is_dead(number) { dead } else { alive }).into()
        })
        .collect()
}

fn request(targets: &[SocketAddr], base: ConnectivityRequest) -> ConnectivityRequest {
    let extra =
        |target: &SocketAddr| ExtraEndpoint { address: target.ip().to_string(), port: target.port(), protocol: Protocol::Modbus };
    ConnectivityRequest { extra: targets.iter().map(extra).collect(), ..base }
}

/// The whole test in virtual time: the processor time that planning, pacing and judging cost.
#[divan::bench(sample_count = 10)]
fn a_thousand_endpoints_virtual(bencher: Bencher<'_, '_>) {
    let targets = targets(502, 503);
    let request = request(&targets, ConnectivityRequest::default());
    bencher.bench_local(|| {
        let mut prober = FakeProber::new();
        for (number, target) in (0..).zip(&targets) {
            prober = if is_dead(number) {
                prober.with_connect(*target, Duration::from_millis(3500), ConnectState::TimedOut, None)
            } else {
                let quick = Duration::from_millis(2);
                prober.with_reply(target.ip(), quick).with_connect(*target, quick, ConnectState::Open, None)
            };
        }
        let edges = Edges {
            prober: Arc::new(prober) as Arc<dyn Prober>,
            sockets: Arc::new(|| Ok(SocketTable::parse("", ""))),
            neighbours: None,
            record: Arc::new(netdiag::capture::start),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let result = runtime.block_on(run(input(request.clone()), edges, CancellationToken::new(), &|_, _| {}, &|_| {}));
        assert_eq!(result.counts.failed, 334);
        result
    });
}

/// The whole test on real sockets: 666 ports of the loopback that open, 334 whose connection requests nobody answers, time-out 1 s.
/// At best it takes the time-out and the 0.1 s for which it goes on looking.
#[divan::bench(sample_count = 3)]
fn a_thousand_endpoints_on_the_loopback(bencher: Bencher<'_, '_>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let alive = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let (_full, dead) = full_queue();
    let base = ConnectivityRequest {
        ping: false,
        capture: false,
        timeout_ms: 1000,
        settle_ms: 100,
        max_rate_per_s: 10_000,
        concurrency: 4096,
        ..ConnectivityRequest::default()
    };
    let request = request(&targets(alive, dead), base);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    bencher.bench_local(|| {
        let edges = Edges {
            prober: Arc::new(NetworkProber::new()),
            sockets: Arc::new(sockets),
            neighbours: None,
            record: Arc::new(netdiag::capture::start),
        };
        let result = runtime.block_on(run(input(request.clone()), edges, CancellationToken::new(), &|_, _| {}, &|_| {}));
        assert_eq!((result.counts.ok, result.counts.failed), (666, 334), "{}", result.text);
        result
    });
}

/// A listener on every address whose queue is full, so that it answers no connection request; what fills it must stay.
fn full_queue() -> (Vec<socket2::Socket>, u16) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let port = listener.local_addr().unwrap().as_socket().unwrap().port();
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into());
        sockets.push(socket);
    }
    std::thread::sleep(Duration::from_millis(100));
    (sockets, port)
}
