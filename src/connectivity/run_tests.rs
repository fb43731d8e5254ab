//! Whole tests against a scripted network, in virtual time.

use super::{plan::tests::endpoint, *};
use crate::{
    analysis::AnalysisSettings,
    api::{
        Capabilities, Capability, ConnectState, ConnectivityRequest, ConnectivityResult, DegradedFrom, Direction, Endpoint,
        PingState, Protocol, Verdict,
    },
    probe::{FakeProber, SocketTable},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn capability(available: bool) -> Capability {
    Capability { available, reason: Some(if available { "raw socket" } else { "no right" }.to_owned()) }
}

fn input(request: ConnectivityRequest, endpoints: &[Endpoint]) -> TestInput {
    TestInput {
        job_id: "job".to_owned(),
        plan: plan(&request, endpoints).unwrap(),
        request,
        capabilities: Capabilities { ping: capability(true), capture: capability(false) },
        local_addresses: Vec::new(),
        heartbeats: Vec::new(),
        recording: None,
        analysis: AnalysisSettings::default(),
        slow_connect_ms: 500,
        degraded_from: DegradedFrom::default(),
    }
}

fn edges(prober: &Arc<FakeProber>) -> Edges {
    Edges {
        prober: Arc::clone(prober) as Arc<dyn crate::probe::Prober>,
        sockets: Arc::new(|| Ok(SocketTable::parse("", ""))),
        neighbours: None,
        record: Arc::new(crate::capture::start),
    }
}

async fn tested(input: TestInput, prober: &Arc<FakeProber>) -> ConnectivityResult {
    run(input, edges(prober), CancellationToken::new(), &|_, _| {}, &|_| {}).await
}

/// The n-th device: its own address in 10.0.0.0/16, port 502.
fn device(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    (Ipv4Addr::new(10, 0, high, low), 502).into()
}

fn modbus(target: SocketAddr) -> Endpoint {
    endpoint(Protocol::Modbus, Direction::Outbound, &target.ip().to_string(), target.port())
}

/// 1,000 endpoints of which a third are dead: about the time of the slowest one and what the rate limit takes, not the sum.
#[tokio::test(start_paused = true)]
async fn a_thousand_endpoints_with_a_third_dead_take_the_time_of_the_slowest() {
    let mut prober = FakeProber::new();
    for number in 0..1000 {
        let target = device(number);
        prober = if number % 3 == 0 {
            prober.with_connect(target, Duration::from_millis(3500), ConnectState::TimedOut, None)
        } else {
            let quick = Duration::from_millis(2);
            prober.with_reply(target.ip(), quick).with_connect(target, quick, ConnectState::Open, None)
        };
    }
    let prober = Arc::new(prober);
    let endpoints: Vec<Endpoint> = (0..1000).map(|number| modbus(device(number))).collect();
    let request = ConnectivityRequest::default();
    let began = Instant::now();
    let result = tested(input(request.clone(), &endpoints), &prober).await;
    let took = began.elapsed();
    assert_eq!((result.counts.total, result.counts.ok, result.counts.failed), (1000, 666, 334));
    // 4,000 probes at 500 a second take 8 s; the slowest endpoint waits its time-out after its turn, then everything settles.
    let rate = Duration::from_secs(8);
    let slowest = Duration::from_millis(request.timeout_ms + request.settle_ms) + Duration::from_millis(400);
    assert!(took >= rate && took <= rate + slowest + Duration::from_millis(500), "{took:?}");
    assert!(result.endpoints[0].verdict == Verdict::Failed && result.endpoints[999].verdict == Verdict::Ok, "worst first");
}

#[tokio::test(start_paused = true)]
async fn one_device_never_gets_two_connections_at_a_time_and_one_ping_round_serves_all_its_ports() {
    let address: IpAddr = Ipv4Addr::new(10, 0, 0, 1).into();
    let mut prober = FakeProber::new().with_reply(address, Duration::from_millis(1));
    let mut endpoints = Vec::new();
    for port in 502..510 {
        prober = prober.with_connect((address, port).into(), Duration::from_millis(30), ConnectState::Open, None);
        endpoints.push(modbus((address, port).into()));
    }
    let prober = Arc::new(prober);
    let result = tested(input(ConnectivityRequest::default(), &endpoints), &prober).await;
    assert_eq!(result.counts.ok, 8);
    assert_eq!(prober.most_connects_to(address), 1);
    let pings = prober.calls().iter().filter(|call| matches!(call.probe, crate::probe::Probe::Ping(..))).count();
    assert_eq!(pings, 3, "the address is pinged once, not once a port");
}

#[tokio::test(start_paused = true)]
async fn the_rate_and_the_concurrency_asked_for_are_kept() {
    let mut prober = FakeProber::new();
    let endpoints: Vec<Endpoint> = (0..100).map(|number| modbus(device(number))).collect();
    for number in 0..100 {
        prober = prober.with_connect(device(number), Duration::from_millis(500), ConnectState::Open, None);
    }
    let prober = Arc::new(prober);
    let request = ConnectivityRequest { ping: false, concurrency: 10, max_rate_per_s: 50, ..Default::default() };
    tested(input(request, &endpoints), &prober).await;
    assert!(prober.most_connects() <= 10);
    let mut begun: Vec<_> = prober.calls().iter().map(|call| call.began).collect();
    begun.sort();
    // The bucket holds a few; after that no second has more than the rate.
    let worst =
        begun.iter().map(|from| begun.iter().filter(|at| **at >= *from && **at < *from + Duration::from_secs(1)).count()).max();
    assert!(worst.unwrap() <= 50 + 5, "{worst:?} in a second");
}

#[tokio::test(start_paused = true)]
async fn dnp3_is_pinged_and_not_connected() {
    let target: SocketAddr = "10.0.0.7:20000".parse().unwrap();
    let prober = Arc::new(FakeProber::new().with_reply(target.ip(), Duration::from_millis(1)));
    let outstation = endpoint(Protocol::Dnp3, Direction::Outbound, "10.0.0.7", 20_000);
    let result = tested(input(ConnectivityRequest::default(), &[outstation]), &prober).await;
    let seen = &result.endpoints[0];
    assert_eq!((seen.connect.state, seen.ping.state, seen.verdict), (ConnectState::Skipped, PingState::Answered, Verdict::Unknown));
    assert!(prober.calls().iter().all(|call| matches!(call.probe, crate::probe::Probe::Ping(..))));
}

#[tokio::test(start_paused = true)]
async fn a_port_that_refuses_is_tried_as_often_as_asked_and_one_that_opens_only_once() {
    let target = device(1);
    let prober = Arc::new(FakeProber::new().with_connect(target, Duration::from_millis(5), ConnectState::Refused, None));
    let request = ConnectivityRequest { ping: false, connect_attempts: 3, ..Default::default() };
    let result = tested(input(request, &[modbus(target)]), &prober).await;
    assert_eq!((result.endpoints[0].connect.attempts, result.endpoints[0].verdict), (3, Verdict::Failed));
    let prober = Arc::new(FakeProber::new().with_connect(target, Duration::from_millis(5), ConnectState::Open, None));
    let request = ConnectivityRequest { ping: false, connect_attempts: 3, ..Default::default() };
    let result = tested(input(request, &[modbus(target)]), &prober).await;
    assert_eq!((result.endpoints[0].connect.attempts, result.endpoints[0].verdict), (1, Verdict::Ok));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_keeps_what_was_decided_and_ends_at_once() {
    let (quick, dead) = (device(1), device(2));
    let prober = FakeProber::new().with_connect(quick, Duration::from_millis(5), ConnectState::Open, None).with_connect(
        dead,
        Duration::from_secs(60),
        ConnectState::TimedOut,
        None,
    );
    let prober = Arc::new(prober);
    let request = ConnectivityRequest { ping: false, timeout_ms: 60_000, settle_ms: 100, ..Default::default() };
    let cancel = CancellationToken::new();
    let canceller = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        canceller.cancel();
    });
    let began = Instant::now();
    let result = run(input(request, &[modbus(quick), modbus(dead)]), edges(&prober), cancel, &|_, _| {}, &|_| {}).await;
    assert!(began.elapsed() < Duration::from_millis(2050), "{:?}", began.elapsed());
    assert!(!result.complete);
    assert_eq!(result.endpoints.len(), 1);
    assert_eq!(result.endpoints[0].verdict, Verdict::Ok);
    assert!(result.problems.iter().any(|problem| problem.contains("1 of 2 endpoints were not decided")), "{:?}", result.problems);
    assert_eq!(prober.connects_running(), 0, "nothing goes on behind the job's back");
}

#[tokio::test(start_paused = true)]
async fn each_endpoint_is_told_once_and_progress_never_goes_back() {
    let endpoints: Vec<Endpoint> = (0..20).map(|number| modbus(device(number))).collect();
    let mut prober = FakeProber::new();
    for number in 0..20 {
        let time = Duration::from_millis(u64::from(number) * 40);
        prober = prober.with_connect(device(number), time, ConnectState::Open, None);
    }
    let (told, latest) = (AtomicUsize::new(0), Mutex::new((0.0, Vec::new())));
    let progress = |fraction: f64, phase: &str| {
        let mut latest = latest.lock().unwrap();
        assert!(fraction >= latest.0, "{fraction} after {}", latest.0);
        latest.0 = fraction;
        latest.1.push(phase.to_owned());
    };
    let decided = |_: &crate::api::EndpointResult| {
        told.fetch_add(1, Ordering::Relaxed);
    };
    let request = ConnectivityRequest { ping: false, settle_ms: 50, ..Default::default() };
    let result = run(input(request, &endpoints), edges(&Arc::new(prober)), CancellationToken::new(), &progress, &decided).await;
    assert_eq!((told.into_inner(), result.endpoints.len()), (20, 20));
    let mut phases = latest.into_inner().unwrap().1;
    phases.dedup();
    assert_eq!(phases, ["starting the capture", "probing", "settling", "closing the capture"]);
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_ping_the_test_runs_and_says_so() {
    let target = device(1);
    let prober = Arc::new(FakeProber::new().with_connect(target, Duration::from_millis(5), ConnectState::Open, None));
    let mut input = input(ConnectivityRequest::default(), &[modbus(target)]);
    input.capabilities.ping = capability(false);
    let result = tested(input, &prober).await;
    assert_eq!((result.endpoints[0].verdict, result.endpoints[0].ping.state), (Verdict::Ok, PingState::Error));
    assert!(result.problems.iter().any(|problem| problem.contains("no right")), "{:?}", result.problems);
    assert!(prober.calls().iter().all(|call| matches!(call.probe, crate::probe::Probe::Connect(_))), "nothing was pinged");
}

#[tokio::test(start_paused = true)]
async fn a_test_of_nothing_ends() {
    let result = tested(input(ConnectivityRequest::default(), &[]), &Arc::new(FakeProber::new())).await;
    assert!(result.complete && result.endpoints.is_empty());
    assert_eq!(result.text, "there was no endpoint to test");
}

#[tokio::test(start_paused = true)]
async fn without_a_capture_the_neighbour_table_tells_that_nobody_answered() {
    use crate::probe::Neighbour;
    let (off, filtered) = (device(1), device(2));
    let timed_out =
        |prober: FakeProber, target| prober.with_connect(target, Duration::from_millis(3500), ConnectState::TimedOut, None);
    let prober = Arc::new(timed_out(timed_out(FakeProber::new(), off), filtered));
    let table: Vec<Neighbour> = [(off, true), (filtered, false)]
        .map(|(target, unanswered)| Neighbour { address: target.ip(), interface: Some("eth0".to_owned()), unanswered })
        .into();
    let read: crate::connectivity::ReadNeighbours = Arc::new(move || {
        let table = table.clone();
        Box::pin(async move { Ok(table) })
    });
    let edges = Edges { neighbours: Some(read), ..edges(&prober) };
    let input = input(ConnectivityRequest::default(), &[modbus(off), modbus(filtered)]);
    let result = run(input, edges, CancellationToken::new(), &|_, _| {}, &|_| {}).await;
    let reason = |target: SocketAddr| {
        let found = result.endpoints.iter().find(|endpoint| endpoint.address == Some(target.ip())).unwrap();
        found.reason.clone()
    };
    assert_eq!(reason(off), "no ARP answer by this host's neighbour table: the host is off, or in another subnet");
    assert!(reason(filtered).contains("without a capture the cause cannot be told"), "{}", reason(filtered));
}

/// The neighbour table may take seconds to come; what is being probed meanwhile must not look slow for it.
#[tokio::test(start_paused = true)]
async fn probing_goes_on_while_a_verdict_is_made() {
    let (dead, quick) = (device(1), device(2));
    let prober = FakeProber::new().with_connect(dead, Duration::from_millis(10), ConnectState::Unreachable, None).with_connect(
        quick,
        Duration::from_millis(200),
        ConnectState::Open,
        None,
    );
    let read: crate::connectivity::ReadNeighbours = Arc::new(|| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(Vec::new())
        })
    });
    let prober = Arc::new(prober);
    let edges = Edges { neighbours: Some(read), ..edges(&prober) };
    let request = ConnectivityRequest { ping: false, settle_ms: 10, ..Default::default() };
    let result = run(input(request, &[modbus(dead), modbus(quick)]), edges, CancellationToken::new(), &|_, _| {}, &|_| {}).await;
    let open = result.endpoints.iter().find(|endpoint| endpoint.address == Some(quick.ip())).unwrap();
    assert_eq!((open.verdict, open.connect.time_ms), (Verdict::Ok, Some(200.0)), "{}", open.reason);
}

/// A prober that fails, as no prober should.
struct Faulty;

#[async_trait::async_trait]
impl crate::probe::Prober for Faulty {
    async fn ping(&self, _: IpAddr, _: u16, _: Duration) -> crate::probe::PingOutcome {
        panic!("a fault in the prober")
    }

    async fn connect(&self, _: SocketAddr, _: Duration) -> crate::probe::ConnectOutcome {
        panic!("a fault in the prober")
    }

    async fn greet(&self, _: SocketAddr, _: crate::probe::Service, _: Duration) -> crate::probe::ConnectOutcome {
        panic!("a fault in the prober")
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_the_prober_fails_the_test_and_is_no_verdict() {
    let edges = Edges { prober: Arc::new(Faulty), ..edges(&Arc::new(FakeProber::new())) };
    let input = input(ConnectivityRequest::default(), &[modbus(device(1))]);
    let running = tokio::spawn(async move { run(input, edges, CancellationToken::new(), &|_, _| {}, &|_| {}).await });
    let error = running.await.unwrap_err().to_string();
    assert!(error.contains("a fault in the prober"), "{error}");
}
