//! Does what was planned, while the traffic is captured.

use super::{
    Facts, Plan, counts, judge,
    probing::{Probed, Probing, not_connected},
    sentence, worst_first,
};
use crate::{
    analysis::{Analysis, AnalysisSettings, Evidence, HeartbeatWatch, Watch, catalogue},
    api::{
        Capabilities, CaptureReport, ConnectState, ConnectivityRequest, ConnectivityResult, DegradedFrom, Direction, Endpoint,
        EndpointResult, Finding, KernelView, PingReport, PingState, Severity, UtcTime,
    },
    capture::{CaptureError, Recording, RecordingOptions},
    probe::{Neighbour, Prober, SocketTable},
};
use futures::future::BoxFuture;
use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// A socket table older than this is read anew before a decision.
const SOCKETS_FRESH: Duration = Duration::from_millis(250);

/// Everything a test needs to know.
#[derive(Debug, Clone)]
pub struct TestInput {
    /// The job.
    pub job_id: String,
    /// The request.
    pub request: ConnectivityRequest,
    /// What is to be done.
    pub plan: Plan,
    /// What this host lets the test do.
    pub capabilities: Capabilities,
    /// This controller's own addresses.
    pub local_addresses: Vec<IpAddr>,
    /// How to capture; `None` to do without.
    pub recording: Option<RecordingOptions>,
    /// The limits and thresholds of the analysis.
    pub analysis: AnalysisSettings,
    /// A handshake that takes longer than this is slow, in milliseconds.
    pub slow_connect_ms: u64,
    /// How much of what goes wrong an endpoint bears before it is degraded.
    pub degraded_from: DegradedFrom,
    /// The registers of these endpoints that must change.
    pub heartbeats: Vec<HeartbeatWatch>,
}

/// The edges that a test works through, so that it can be tested without a network.
#[derive(Clone)]
pub struct Edges {
    /// Sends the probes.
    pub prober: Arc<dyn Prober>,
    /// Reads this host's sockets; may block.
    pub sockets: Arc<dyn Fn() -> io::Result<SocketTable> + Send + Sync>,
    /// Reads this host's neighbour table, which is asked when nothing is captured; `None` to do without.
    pub neighbours: Option<ReadNeighbours>,
    /// Begins to record; may block.
    pub record: Record,
}

/// Reads the kernel's neighbour table.
pub type ReadNeighbours = Arc<dyn Fn() -> BoxFuture<'static, io::Result<Vec<Neighbour>>> + Send + Sync>;

/// Begins to record what passes, to a file and to the analysis.
pub type Record = Arc<dyn Fn(RecordingOptions, Arc<Mutex<Analysis>>) -> Result<Recording, CaptureError> + Send + Sync>;

/// Told how far the test is (0 to 1) and what it is doing. Must not block.
pub type Progress<'a> = &'a (dyn Fn(f64, &str) + Send + Sync);
/// Told of each endpoint as it is decided. Must not block.
pub type Decided<'a> = &'a (dyn Fn(&EndpointResult) + Send + Sync);

/// Runs a test to its end, or until it is cancelled; then the result holds what was decided until then.
pub async fn run(
    input: TestInput,
    edges: Edges,
    cancel: CancellationToken,
    progress: Progress<'_>,
    decided: Decided<'_>,
) -> ConnectivityResult {
    let started_at = now();
    let mut test = Test {
        results: Vec::with_capacity(input.plan.endpoints.len()),
        problems: input.plan.problems.clone(),
        sockets: None,
        neighbours: None,
        sessions_before: None,
        own: Vec::new(),
        probing: Probing::default(),
        analysis: None,
        input: Arc::new(input),
        edges,
        progress,
        decided,
    };
    progress(0.0, "starting the capture");
    // A cancel drops what is under way: connects that have not opened send nothing more, a recording that just began stops.
    let recording = cancel.run_until_cancelled(test.start_recording()).await.flatten();
    let complete = cancel.run_until_cancelled(test.probe_and_decide()).await.is_some();
    test.probing.end().await;
    progress(0.99, if complete { "closing the capture" } else { "cancelling" });
    let capture = match recording {
        Some(recording) => stop(recording, complete).await,
        None => None,
    };
    test.into_result(started_at, complete, capture).await
}

struct Test<'a> {
    input: Arc<TestInput>,
    edges: Edges,
    progress: Progress<'a>,
    decided: Decided<'a>,
    results: Vec<EndpointResult>,
    problems: Vec<String>,
    analysis: Option<Arc<Mutex<Analysis>>>,
    sockets: Option<(Instant, SocketTable)>,
    neighbours: Option<(Instant, Vec<Neighbour>)>,
    sessions_before: Option<SocketTable>,
    /// The local addresses of every connect that was made.
    own: Vec<SocketAddr>,
    probing: Probing,
}

impl Test<'_> {
    async fn start_recording(&mut self) -> Option<Recording> {
        let options = self.input.recording.clone()?;
        let watches = self.input.plan.endpoints.iter().map(|planned| Watch {
            endpoint_id: planned.endpoint.endpoint_id.clone(),
            protocol: planned.endpoint.protocol,
            direction: planned.endpoint.direction,
            address: planned.endpoint.address,
            port: planned.endpoint.port,
            gateway: planned.endpoint.gateway,
        });
        let analysis = Analysis::new(self.input.analysis.clone(), watches.collect(), self.input.local_addresses.clone())
            .with_heartbeats(self.input.heartbeats.clone());
        let analysis = Arc::new(Mutex::new(analysis));
        let sink = Arc::clone(&analysis);
        let record = Arc::clone(&self.edges.record);
        let started = tokio::task::spawn_blocking(move || record(options, sink)).await;
        let problem = match started {
            Ok(Ok(recording)) => {
                self.analysis = Some(analysis);
                return Some(recording);
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => format!("the capture failed: {error}"),
        };
        self.problems.push(format!("nothing was captured: {problem}"));
        None
    }

    async fn probe_and_decide(&mut self) {
        self.read_sockets().await;
        self.sessions_before = self.sockets.as_ref().map(|(_, table)| table.clone());
        let input = Arc::clone(&self.input);
        let settle = Duration::from_millis(input.request.settle_ms);
        let mut settling: VecDeque<(Instant, Probed)> = VecDeque::new();
        let mut postponed = Vec::new();
        let mut all_probed = false;
        self.tell(all_probed);
        self.probing.start(&input, &self.edges.prober);
        loop {
            let next = settling.front().map(|(due, _)| *due);
            tokio::select! {
                probed = self.probing.next(), if !all_probed => match probed {
                    Some(probed) => {
                        self.own.extend(&probed.connect.local_addresses);
                        settling.push_back((Instant::now() + settle, probed));
                    }
                    None => {
                        all_probed = true;
                        self.tell(all_probed);
                    }
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    while settling.front().is_some_and(|(due, _)| *due <= Instant::now()) {
                        match settling.pop_front() {
                            Some((_, outcome)) if self.has_silent_session(&outcome) => postponed.push(outcome),
                            Some((_, outcome)) => self.decide(outcome).await,
                            None => {}
                        }
                        // Hundreds may be due at once, and this thread has other tasks.
                        tokio::task::consume_budget().await;
                    }
                    self.tell(all_probed);
                }
                // All is probed and nothing settles: all has been decided.
                else => break,
            }
        }
        if !postponed.is_empty() {
            sleep(input.analysis.response_timeout).await;
            for outcome in postponed {
                self.decide(outcome).await;
            }
        }
        if !input.plan.watched_only.is_empty() {
            if input.plan.devices.is_empty() {
                // Nothing was probed, so nothing has settled yet: give the traffic of others the same time to be seen.
                sleep(settle).await;
            }
            for &index in &input.plan.watched_only {
                let connect = not_connected(&input.plan, index);
                self.decide(Probed { index, ping: PingReport::not_requested(None), connect }).await;
            }
        }
    }

    /// Whether the endpoint has a session of somebody else on which nothing was answered yet: it is looked at again when its
    /// requests have had time to be answered.
    fn has_silent_session(&self, probed: &Probed) -> bool {
        let Some(planned) = self.input.plan.endpoints.get(probed.index) else { return false };
        let evidence = self
            .analysis
            .as_ref()
            .and_then(|analysis| lock(analysis).evidence(&planned.endpoint.endpoint_id, &probed.connect.local_addresses));
        evidence.is_some_and(|evidence| evidence.session.connections > 0 && !evidence.session.answered)
    }

    fn tell(&self, all_probed: bool) {
        let total = self.input.plan.endpoints.len().max(1);
        let phase = if all_probed { "settling" } else { "probing" };
        (self.progress)(0.98 * self.results.len() as f64 / total as f64, phase);
    }

    async fn read_sockets(&mut self) {
        if self.sockets.as_ref().is_some_and(|(read_at, _)| read_at.elapsed() < SOCKETS_FRESH) {
            return;
        }
        let sockets = Arc::clone(&self.edges.sockets);
        let problem = match tokio::task::spawn_blocking(move || sockets()).await {
            Ok(Ok(table)) => {
                self.sockets = Some((Instant::now(), table));
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.sockets = None;
        let problem = format!("this host's sockets could not be read: {problem}");
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// The endpoint's address, or the gateway to it, if this host's neighbour table says that nobody answered for it. Where there is a
    /// capture, that tells more.
    async fn silent_neighbour(&mut self, endpoint: &Endpoint) -> Option<IpAddr> {
        if self.analysis.is_some() {
            return None;
        }
        let wanted = endpoint.gateway.or(endpoint.address)?;
        if self.neighbours.as_ref().is_none_or(|(read_at, _)| read_at.elapsed() >= SOCKETS_FRESH) {
            let read = self.edges.neighbours.clone()?;
            // Without it the verdict stands all the same, only with less of a reason.
            self.neighbours = read().await.ok().map(|neighbours| (Instant::now(), neighbours));
        }
        let (_, neighbours) = self.neighbours.as_ref()?;
        let of_it = |neighbour: &&Neighbour| {
            neighbour.address == wanted && (endpoint.interface.is_none() || neighbour.interface == endpoint.interface)
        };
        neighbours.iter().find(of_it).filter(|neighbour| neighbour.unanswered).map(|_| wanted)
    }

    async fn decide(&mut self, probed: Probed) {
        self.read_sockets().await;
        let input = Arc::clone(&self.input);
        let Some(planned) = input.plan.endpoints.get(probed.index) else { return };
        let endpoint = &planned.endpoint;
        // A port of our own may be probed as the target of another config; those connections are nobody's session.
        let own = match endpoint.direction {
            Direction::Outbound => &probed.connect.local_addresses,
            Direction::Inbound | Direction::Undetermined => &self.own,
        };
        let view = |table: &SocketTable| endpoint.port.map(|port| table.view(endpoint.direction, endpoint.address, port, own));
        let kernel = self.sockets.as_ref().and_then(|(_, table)| view(table));
        let before = self.sessions_before.as_ref().and_then(view);
        let evidence = self.analysis.as_ref().and_then(|analysis| lock(analysis).evidence(&endpoint.endpoint_id, own));
        let mut ping = probed.ping;
        if let Some(rtt) = evidence.as_ref().and_then(|evidence| evidence.ping_rtt).filter(|_| ping.state == PingState::Answered) {
            ping.rtt_ms = Some(rtt);
        }
        let silent_neighbour = match probed.connect.state {
            ConnectState::TimedOut | ConnectState::Unreachable => self.silent_neighbour(endpoint).await,
            _ => None,
        };
        let judgement = judge(&Facts {
            silent_neighbour,
            endpoint,
            ping: &ping,
            connect: &probed.connect,
            kernel: kernel.as_ref(),
            evidence: evidence.as_ref(),
            timeout_ms: input.request.timeout_ms,
            slow_connect_ms: input.slow_connect_ms,
            degraded_from: input.degraded_from,
        });
        let decided_at = now();
        let lost = session_lost(&endpoint.endpoint_id, before.as_ref(), kernel.as_ref(), decided_at);
        let (wire, mut findings) = match evidence {
            Some(Evidence { wire, findings, .. }) => (Some(wire), findings),
            None => (None, Vec::new()),
        };
        findings.extend(lost);
        let result = EndpointResult {
            endpoint_id: endpoint.endpoint_id.clone(),
            protocol: endpoint.protocol,
            direction: endpoint.direction,
            name: endpoint.name.clone(),
            address: endpoint.address,
            port: endpoint.port,
            unit_ids: endpoint.unit_ids.clone(),
            dnp3_addresses: endpoint.dnp3_addresses.clone(),
            config_files: endpoint.config_files.clone(),
            interface: endpoint.interface.clone(),
            source_address: endpoint.source_address,
            verdict: judgement.verdict,
            reason: judgement.reason,
            ping,
            connect: probed.connect,
            kernel,
            wire,
            findings,
            decided_at,
        };
        (self.decided)(&result);
        self.results.push(result);
    }

    async fn into_result(mut self, started_at: UtcTime, complete: bool, mut capture: Option<CaptureReport>) -> ConnectivityResult {
        let input = Arc::clone(&self.input);
        let undecided = input.plan.endpoints.len() - self.results.len();
        if undecided > 0 {
            self.problems.push(format!("{undecided} of {} endpoints were not decided", input.plan.endpoints.len()));
        }
        if !input.capabilities.ping.available && input.request.ping {
            let reason = input.capabilities.ping.reason.as_deref().unwrap_or("no reason given");
            self.problems.push(format!("nothing was pinged: {reason}"));
        }
        let mut findings = Vec::new();
        if let Some(analysis) = self.analysis.take() {
            // All flows are gone through for this.
            let read = move || {
                let analysis = lock(&analysis);
                (analysis.findings(), analysis.counters().undecodable)
            };
            match tokio::task::spawn_blocking(read).await {
                Ok((found, undecodable)) => {
                    findings = found;
                    capture.iter_mut().for_each(|capture| capture.undecodable = undecodable);
                }
                Err(error) => self.problems.push(format!("the findings could not be read: {error}")),
            }
        }
        if let Some(capture) = &capture {
            self.problems.extend(capture_problems(capture));
        }
        worst_first(&mut self.results);
        let counts = counts(&self.results);
        ConnectivityResult {
            job_id: input.job_id.clone(),
            started_at,
            finished_at: now(),
            complete,
            request: input.request.clone(),
            capabilities: input.capabilities.clone(),
            text: sentence(&counts, complete),
            counts,
            endpoints: self.results,
            endpoint_uris: Vec::new(),
            findings,
            capture,
            problems: self.problems,
        }
    }
}

fn capture_problems(capture: &CaptureReport) -> Vec<String> {
    let mut problems: Vec<String> = capture.problem.iter().cloned().collect();
    problems.extend(capture.interfaces.iter().filter_map(|interface| {
        let error = interface.error.as_ref()?;
        Some(format!("{} was not captured all the time: {error}", interface.name))
    }));
    if capture.kernel_dropped > 0 {
        problems.push(format!("the kernel dropped {} packets, so evidence may be missing", capture.kernel_dropped));
    }
    problems
}

fn session_lost(endpoint_id: &str, before: Option<&KernelView>, after: Option<&KernelView>, at: UtcTime) -> Option<Finding> {
    let (before, after) = (before?.established, after?.established);
    let lost = before.checked_sub(after).filter(|lost| *lost > 0)?;
    Some(Finding {
        code: catalogue::KERNEL_SESSION_LOST.code.to_owned(),
        severity: Severity::Warning,
        count: u64::from(lost),
        first_at: Some(at),
        last_at: Some(at),
        endpoint_id: Some(endpoint_id.to_owned()),
        message: format!("{lost} of {before} sessions that were established when the test began are gone"),
        packets: Vec::new(),
    })
}

async fn stop(recording: Recording, complete: bool) -> Option<CaptureReport> {
    let stop = move || if complete { recording.stop() } else { recording.stop_quickly() };
    match tokio::task::spawn_blocking(stop).await {
        Ok(report) => Some(report),
        Err(error) => Some(CaptureReport { problem: Some(format!("the capture failed: {error}")), ..CaptureReport::default() }),
    }
}

fn now() -> UtcTime {
    UtcTime::from(SystemTime::now()).to_millis()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
