//! The work of each kind of job.

use super::{
    names::Names,
    replies::Core,
    results::fit_result,
    sites::{Site, routes},
};
use crate::{
    api::{
        Capabilities, CaptureReport, CaptureRequest, CaptureSummary, ConnectivityRequest, ConnectivityResult, Endpoint,
        ExtraEndpoint, JobState, JobSummary, Topology,
    },
    capture::{self, RecordingOptions},
    connectivity::{self, Edges, Plan, ReadNeighbours, Record, TestInput, capture_interfaces},
    jobs::{JobContext, Outcome, Runner},
    packet::{Packet, PacketSink},
    probe::{Network, NetworkProber, sockets},
    topology,
};
use async_trait::async_trait;
use serde::Serialize;
use std::{
    collections::HashSet,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

/// Runs connectivity tests.
pub(super) struct ConnectivityRunner(pub(super) Weak<Core>);

#[async_trait]
impl Runner for ConnectivityRunner {
    async fn run(&self, context: JobContext) -> Outcome {
        let Some(core) = self.0.upgrade() else { return Outcome::failed("the service is ending") };
        let request: ConnectivityRequest = match serde_json::from_value(context.job.request.clone()) {
            Ok(request) => request,
            Err(error) => return Outcome::failed(format!("the request cannot be read back: {error}")),
        };
        context.progress(0.0, "reading the configs");
        let Some(prepared) = context.cancel.run_until_cancelled(prepare(&core, &context, request)).await else {
            return Outcome { state: JobState::Cancelled, error: None, summary: Some(summary("stopped before the first probe")) };
        };
        let (input, edges) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Outcome::failed(error),
        };
        let job_id = context.job.job_id.clone();
        core.results.begin(&job_id);
        let decided = |result: &_| {
            core.results.decided(result);
            core.publish_endpoint(&job_id, result);
        };
        let progress = |fraction: f64, phase: &str| context.progress(fraction, phase);
        let result = connectivity::run(input, edges, context.cancel.clone(), &progress, &decided).await;
        context.progress(0.99, "writing the result");
        let result = Arc::new(result);
        let recorded = record(&core, &job_id, Arc::clone(&result), result.complete).await;
        if result.complete {
            core.post_test_events(&result);
        }
        let summary = JobSummary {
            text: result.text.clone(),
            endpoints: Some(result.counts),
            capture: result.capture.as_ref().map(capture_summary),
        };
        let state = if result.complete { JobState::Succeeded } else { JobState::Cancelled };
        Outcome { state, error: recorded.err(), summary: Some(summary) }
    }
}

/// Reads the site as it is now and lays out the test.
async fn prepare(core: &Arc<Core>, context: &JobContext, request: ConnectivityRequest) -> Result<(TestInput, Edges), String> {
    let (site, mut plan) = site_now(core, &request).await?;
    let prober = NetworkProber::new();
    let capabilities = Capabilities { ping: prober.ping_capability(), capture: capture_capability().await };
    core.set_capabilities(capabilities.clone());
    let endpoints = || plan.endpoints.iter().map(|planned| &planned.endpoint);
    let mut recording = None;
    if request.capture {
        let interfaces = capture_interfaces(endpoints(), &site.topology.interfaces);
        let filter = capture::endpoints_filter(&endpoints().cloned().collect::<Vec<_>>());
        match recording_options(core, context, interfaces, filter).await {
            Ok(options) => recording = Some(options),
            Err(problem) => plan.problems.push(format!("nothing was captured: {problem}")),
        }
    }
    let heartbeats = core.heartbeats(&site.topology, &endpoints().cloned().collect::<Vec<_>>());
    let analysis = core.settings.analysis();
    // The interface and the packets that the monitor records already are recorded once.
    let (sharing, recorded) = (Arc::clone(core), endpoints().cloned().collect::<Vec<_>>());
    let record: Record = Arc::new(move |options, sink| match sharing.monitor.record(&recorded, &options, &sink) {
        Some(recording) => Ok(recording),
        None => capture::start(options, sink),
    });
    let input = TestInput {
        job_id: context.job.job_id.clone(),
        request,
        plan,
        capabilities,
        local_addresses: local_addresses(&site.topology),
        heartbeats,
        recording,
        analysis,
        slow_connect_ms: core.settings.slow_connect_ms,
        degraded_from: core.settings.degraded_from(),
    };
    let neighbours: ReadNeighbours = Arc::new(|| Box::pin(async { Network::open().await?.neighbours().await }));
    Ok((input, Edges { prober: Arc::new(prober), sockets: Arc::new(sockets), neighbours: Some(neighbours), record }))
}

/// The site as it is now, and what a request makes of it, with the way to every endpoint.
async fn site_now(core: &Arc<Core>, request: &ConnectivityRequest) -> Result<(Arc<Site>, Plan), String> {
    let site = core.sites.rescan().await;
    let mut endpoints = site.topology.endpoints.clone();
    endpoints.extend(named_extra(request, &endpoints).await);
    let mut plan = connectivity::plan(request, &endpoints).map_err(|error| error.message)?;
    route_extra(&mut plan.endpoints, &site.topology).await;
    Ok((site, plan))
}

/// The endpoints that a request adds by host name, with their addresses.
async fn named_extra(request: &ConnectivityRequest, known: &[Endpoint]) -> Vec<Endpoint> {
    let known: HashSet<&str> = known.iter().map(|endpoint| endpoint.endpoint_id.as_str()).collect();
    let extra = request.extra.iter().map(ExtraEndpoint::endpoint);
    let mut named: Vec<Endpoint> =
        extra.filter(|endpoint| endpoint.address.is_none() && !known.contains(endpoint.endpoint_id.as_str())).collect();
    let names = named.iter().filter_map(|endpoint| endpoint.host.clone()).collect();
    let answers = Names::of_system().resolve(&names).await;
    for endpoint in &mut named {
        let answer = endpoint.host.as_ref().and_then(|host| answers.get(host));
        endpoint.address = answer.and_then(|answer| answer.as_ref().ok()).copied();
    }
    named
}

/// Endpoints that are in no config have no route yet.
async fn route_extra(planned: &mut [connectivity::PlannedEndpoint], site: &Topology) {
    let mut extra: Vec<&mut Endpoint> =
        planned.iter_mut().map(|planned| &mut planned.endpoint).filter(|endpoint| endpoint.config_files.is_empty()).collect();
    if extra.is_empty() {
        return;
    }
    let Ok(network) = Network::open().await else { return };
    let mut topology = Topology { endpoints: extra.iter().map(|endpoint| (**endpoint).clone()).collect(), ..site.clone() };
    let facts = routes(&network, &topology.endpoints).await;
    topology::apply_network(&mut topology, &facts, site.interfaces.clone());
    for endpoint in &mut extra {
        if let Some(routed) = topology.endpoints.iter().find(|routed| routed.endpoint_id == endpoint.endpoint_id) {
            **endpoint = routed.clone();
        }
    }
}

/// Runs captures.
pub(super) struct CaptureRunner(pub(super) Weak<Core>);

#[async_trait]
impl Runner for CaptureRunner {
    async fn run(&self, context: JobContext) -> Outcome {
        let Some(core) = self.0.upgrade() else { return Outcome::failed("the service is ending") };
        let request: CaptureRequest = match serde_json::from_value(context.job.request.clone()) {
            Ok(request) => request,
            Err(error) => return Outcome::failed(format!("the request cannot be read back: {error}")),
        };
        context.progress(0.0, "starting the capture");
        let before_it_began =
            || Outcome { state: JobState::Cancelled, error: None, summary: Some(summary("stopped before it began")) };
        let Some(prepared) = context.cancel.run_until_cancelled(capture_options(&core, &context, &request)).await else {
            return before_it_began();
        };
        let options = match prepared {
            Ok(options) => options,
            Err(problem) => return Outcome::failed(problem),
        };
        let max_bytes = options.max_bytes;
        // A recording that nobody waits for any more ends by itself.
        let starting = tokio::task::spawn_blocking(move || capture::start(options, Arc::new(Mutex::new(Nobody))));
        let recording = match context.cancel.run_until_cancelled(starting).await {
            Some(Ok(Ok(recording))) => recording,
            Some(Ok(Err(error))) => return Outcome::failed(error.to_string()),
            Some(Err(error)) => return Outcome::failed(format!("the capture failed: {error}")),
            None => return before_it_began(),
        };
        let begun = tokio::time::Instant::now();
        let duration = Duration::from_secs(request.duration_s);
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        let complete = loop {
            tokio::select! {
                () = context.cancel.cancelled() => break false,
                _ = tick.tick() => {
                    let (packets, bytes) = recording.progress();
                    let by_time = begun.elapsed().as_secs_f64() / duration.as_secs_f64();
                    context.progress(by_time.max(bytes as f64 / max_bytes as f64).min(0.99), "capturing");
                    tracing::trace!(packets, bytes, "capturing");
                    if begun.elapsed() >= duration || bytes >= max_bytes || recording.file_has_ended() {
                        break true;
                    }
                }
            }
        };
        let report =
            match tokio::task::spawn_blocking(move || if complete { recording.stop() } else { recording.stop_quickly() }).await {
                Ok(report) => report,
                Err(error) => return Outcome::failed(format!("the capture failed: {error}")),
            };
        let report = Arc::new(report);
        let recorded = record(&core, &context.job.job_id, Arc::clone(&report), complete).await;
        let text = format!("{} packets, {} bytes captured", report.packets, report.file_bytes);
        let summary = JobSummary { text, endpoints: None, capture: Some(capture_summary(&report)) };
        let state = if complete { JobState::Succeeded } else { JobState::Cancelled };
        Outcome { state, error: recorded.err().or_else(|| report.problem.clone()), summary: Some(summary) }
    }
}

/// How to do what a request for a capture asks: whatever it leaves open follows the site as it is now.
async fn capture_options(core: &Arc<Core>, context: &JobContext, request: &CaptureRequest) -> Result<RecordingOptions, String> {
    let (interfaces, filter) = match (&request.interfaces, &request.filter) {
        (Some(interfaces), Some(filter)) => (interfaces.clone(), filter.clone()),
        (interfaces, filter) => {
            let (site, plan) = site_now(core, &ConnectivityRequest::default()).await?;
            let endpoints: Vec<Endpoint> = plan.endpoints.into_iter().map(|planned| planned.endpoint).collect();
            (
                interfaces.clone().unwrap_or_else(|| capture_interfaces(&endpoints, &site.topology.interfaces)),
                filter.clone().unwrap_or_else(|| capture::endpoints_filter(&endpoints)),
            )
        }
    };
    let options = recording_options(core, context, interfaces, filter).await?;
    Ok(RecordingOptions {
        snaplen: request.snaplen.unwrap_or(options.snaplen),
        max_bytes: request.max_bytes.unwrap_or(options.max_bytes).min(options.max_bytes),
        ..options
    })
}

/// Takes packets that only go to the file.
struct Nobody;

impl PacketSink for Nobody {
    fn packet(&mut self, _: &Packet<'_>) {}
}

/// How to record, or why not: no interface, no room, no folder.
async fn recording_options(
    core: &Arc<Core>,
    context: &JobContext,
    interfaces: Vec<String>,
    filter: String,
) -> Result<RecordingOptions, String> {
    if interfaces.is_empty() {
        return Err("no interface leads to any of the endpoints".to_owned());
    }
    let store = core.driver().store().clone();
    let job_id = context.job.job_id.clone();
    let (min_free, kept) = (core.settings.min_free_bytes, core.settings.captures_kept_bytes);
    let prepared = tokio::task::spawn_blocking(move || -> Result<PathBuf, String> {
        let dir = store.create(&job_id).map_err(|error| error.to_string())?;
        if let Err(error) = store.prune_captures(kept, std::slice::from_ref(&job_id)) {
            tracing::warn!(%error, "old captures could not be removed");
        }
        let free = free_bytes(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        if free < min_free {
            return Err(format!(
                "only {free} bytes are free below {}, less than the {min_free} that are never used",
                dir.display()
            ));
        }
        Ok(store.capture_path(&job_id))
    });
    let file = prepared.await.map_err(|error| error.to_string())??;
    Ok(RecordingOptions {
        interfaces,
        filter,
        snaplen: core.settings.capture_snaplen,
        buffer_bytes: core.settings.capture_buffer_bytes,
        file,
        max_bytes: core.settings.capture_max_bytes,
        min_free_bytes: core.settings.min_free_bytes,
    })
}

/// The bytes that this process may still write at a path.
pub(crate) fn free_bytes(path: &std::path::Path) -> nix::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// The size of the disk that a path is on, in bytes.
pub(crate) fn disk_bytes(path: &std::path::Path) -> nix::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok(stat.blocks().saturating_mul(stat.fragment_size()))
}

/// Writes a result to disk and keeps it at hand. The error is for the job: the result is at hand all the same. Whoever cancelled does
/// not wait for the disk.
pub(super) async fn record<T>(core: &Arc<Core>, job_id: &str, result: Arc<T>, complete: bool) -> Result<(), String>
where
    T: Serialize + Send + Sync + 'static,
{
    let (json, body) = written(result, core.settings.base_uri.clone(), core.body_max()).await?;
    core.results.finished(job_id, Arc::clone(&body));
    let (store, id) = (core.driver().store().clone(), job_id.to_owned());
    let saving = core.writes.spawn_blocking(move || {
        let saved = store.save_result(&id, &json).map_err(|error| format!("the result could not be written to disk: {error}"));
        saved.inspect_err(|error| tracing::error!("{error}"))
    });
    core.publish(&format!("jobs/{job_id}/result"), body.to_vec());
    if !complete {
        return Ok(());
    }
    saving.await.map_err(|error| error.to_string())?
}

/// A result as it is recorded, and as it goes over the bus; made off the runtime, because it may be megabytes.
async fn written<T>(result: Arc<T>, base_uri: String, body_max: usize) -> Result<(Vec<u8>, Arc<[u8]>), String>
where
    T: Serialize + Send + Sync + 'static,
{
    let writing = tokio::task::spawn_blocking(move || {
        let json = serde_json::to_vec_pretty(&*result).map_err(|error| error.to_string())?;
        let body = fit_result(&base_uri, &json, body_max);
        Ok((json, body))
    });
    writing.await.map_err(|error| error.to_string())?
}

/// Whether this host lets us capture, asked off the runtime because it opens devices.
pub(super) async fn capture_capability() -> crate::api::Capability {
    tokio::task::spawn_blocking(capture::capability)
        .await
        .unwrap_or_else(|error| crate::api::Capability { available: false, reason: Some(error.to_string()) })
}

pub(super) fn local_addresses(topology: &Topology) -> Vec<IpAddr> {
    let addresses = topology.interfaces.iter().flat_map(|interface| &interface.addresses);
    addresses.filter_map(|address| address.split('/').next()?.parse().ok()).collect()
}

fn capture_summary(report: &CaptureReport) -> CaptureSummary {
    CaptureSummary {
        file: report.file.clone(),
        file_bytes: report.file_bytes,
        packets: report.packets,
        kernel_dropped: report.kernel_dropped,
    }
}

fn summary(text: &str) -> JobSummary {
    JobSummary { text: text.to_owned(), ..JobSummary::default() }
}

/// Reads a recorded connectivity result back.
pub(super) fn parse_result(json: &[u8]) -> Option<ConnectivityResult> {
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::{ThreadId, current};

    #[derive(Default)]
    struct Large(Mutex<Option<ThreadId>>);

    impl Serialize for Large {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            *self.0.lock().unwrap() = Some(current().id());
            serializer.serialize_str("written")
        }
    }

    #[tokio::test]
    async fn results_are_written_off_the_runtime() {
        let large = Arc::new(Large::default());
        let (json, body) = written(Arc::clone(&large), "/netdiag".to_owned(), 1000).await.unwrap();
        assert_eq!((json.as_slice(), &*body), (&b"\"written\""[..], &b"\"written\""[..]));
        let thread = large.0.lock().unwrap().unwrap();
        assert_ne!(thread, current().id());
    }
}
