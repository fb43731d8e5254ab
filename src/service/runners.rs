//! The work of each kind of job.

use super::{
    replies::Core,
    results::{BODY_MAX, fit_result},
    sites::routes,
};
use crate::{
    analysis::AnalysisSettings,
    api::{
        Capabilities, CaptureReport, CaptureRequest, CaptureSummary, ConnectivityRequest, ConnectivityResult, Endpoint, JobState,
        JobSummary, Topology,
    },
    capture::{self, RecordingOptions},
    connectivity::{self, Edges, TestInput, capture_interfaces},
    jobs::{JobContext, Outcome, Runner},
    packet::{Packet, PacketSink},
    probe::{Network, NetworkProber, sockets},
    topology,
};
use async_trait::async_trait;
use std::{
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
        let recorded = record(&core, &job_id, serde_json::to_vec_pretty(&result).unwrap_or_default()).await;
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
    let site = core.sites.rescan().await;
    let mut plan = connectivity::plan(&request, &core.with_extra(&site.topology.endpoints)).map_err(|error| error.message)?;
    route_extra(&mut plan.endpoints, &site.topology).await;
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
    let analysis = AnalysisSettings {
        response_timeout: Duration::from_millis(core.settings.response_timeout_ms),
        slow_response: Duration::from_millis(core.settings.slow_response_ms),
        ..AnalysisSettings::default()
    };
    let input = TestInput {
        job_id: context.job.job_id.clone(),
        request,
        plan,
        capabilities,
        local_addresses: local_addresses(&site.topology),
        recording,
        analysis,
    };
    Ok((input, Edges { prober: Arc::new(prober), sockets: Arc::new(sockets) }))
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
        let site = core.sites.latest();
        let endpoints = core.with_extra(&site.topology.endpoints);
        let interfaces = request.interfaces.clone().unwrap_or_else(|| capture_interfaces(&endpoints, &site.topology.interfaces));
        let filter = request.filter.clone().unwrap_or_else(|| capture::endpoints_filter(&endpoints));
        let mut options = match recording_options(&core, &context, interfaces, filter).await {
            Ok(options) => options,
            Err(problem) => return Outcome::failed(problem),
        };
        options.snaplen = request.snaplen.unwrap_or(options.snaplen);
        options.max_bytes = request.max_bytes.unwrap_or(options.max_bytes).min(core.settings.capture_max_bytes);
        let max_bytes = options.max_bytes;
        let started = tokio::task::spawn_blocking(move || capture::start(options, Arc::new(Mutex::new(Nobody)))).await;
        let recording = match started {
            Ok(Ok(recording)) => recording,
            Ok(Err(error)) => return Outcome::failed(error.to_string()),
            Err(error) => return Outcome::failed(format!("the capture failed: {error}")),
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
                    if begun.elapsed() >= duration || bytes >= max_bytes {
                        break true;
                    }
                }
            }
        };
        let report = match tokio::task::spawn_blocking(move || recording.stop()).await {
            Ok(report) => report,
            Err(error) => return Outcome::failed(format!("the capture failed: {error}")),
        };
        let recorded = record(&core, &context.job.job_id, serde_json::to_vec_pretty(&report).unwrap_or_default()).await;
        let text = format!("{} packets, {} bytes captured", report.packets, report.file_bytes);
        let summary = JobSummary { text, endpoints: None, capture: Some(capture_summary(&report)) };
        let state = if complete { JobState::Succeeded } else { JobState::Cancelled };
        Outcome { state, error: recorded.err().or(report.problem), summary: Some(summary) }
    }
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
    })
}

/// The bytes that this process may still write at a path.
pub(crate) fn free_bytes(path: &std::path::Path) -> nix::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// Writes a result to disk and keeps it at hand. The error is for the job: the result is at hand all the same.
async fn record(core: &Arc<Core>, job_id: &str, json: Vec<u8>) -> Result<(), String> {
    let body = fit_result(&core.settings.base_uri, &json, BODY_MAX);
    core.results.finished(job_id, Arc::clone(&body));
    let (store, id) = (core.driver().store().clone(), job_id.to_owned());
    let saved = tokio::task::spawn_blocking(move || store.save_result(&id, &json)).await;
    core.publish(&format!("jobs/{job_id}/result"), body.to_vec());
    match saved {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the result could not be written to disk: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether this host lets us capture, asked off the runtime because it opens devices.
pub(super) async fn capture_capability() -> crate::api::Capability {
    tokio::task::spawn_blocking(capture::capability)
        .await
        .unwrap_or_else(|error| crate::api::Capability { available: false, reason: Some(error.to_string()) })
}

fn local_addresses(topology: &Topology) -> Vec<IpAddr> {
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
