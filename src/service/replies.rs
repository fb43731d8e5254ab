//! What a message is answered with: at once, from what is known.

use super::{
    Request, Settings, events,
    first_look::check_path,
    monitor::Monitor,
    remembered,
    results::{BODY_MAX, Results, body_of, fit_job, fit_jobs, fit_result, fit_snapshots},
    route,
    runners::parse_result,
    site_bodies::{endpoint_detail, fit_topology, piece},
    sites::Sites,
};
use crate::{
    analysis::HeartbeatWatch,
    api::{
        ApiError, Capabilities, ConnectivityResult, CopsAnswer, Endpoint, EndpointResult, ErrorBody, ErrorCode, Event, Job,
        JobAccepted, JobKind, Snapshot, Topology, TriggerAccepted,
    },
    connectivity,
    fims::{Client, Message, SendError},
    jobs::{Driver, write_atomically},
};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

/// How long a rescan may take before it is answered with the numbers of the scan before.
const RESCAN_PATIENCE: Duration = Duration::from_millis(80);
/// So many results may be read from disk at a time.
const DISK_READERS: usize = 4;
/// So many askers may wait for the kernel's interfaces at a time.
const KERNEL_READERS: usize = 4;

/// What every part of the service shares.
pub(super) struct Core {
    pub(super) settings: Settings,
    /// The registers of the settings' definition files.
    defined_heartbeats: Vec<HeartbeatWatch>,
    pub(super) client: Client,
    pub(super) sites: Sites,
    pub(super) monitor: Monitor,
    pub(super) results: Results,
    pub(super) started: Instant,
    /// Something that status or summary tell has changed.
    pub(super) changed: Notify,
    driver: OnceLock<Driver>,
    capabilities: Mutex<Capabilities>,
    memory: Mutex<events::Memory>,
    cops_heartbeat: AtomicU64,
    disk_readers: Arc<Semaphore>,
    kernel_readers: Arc<Semaphore>,
    /// What is being written to disk; the service ends after it.
    pub(super) writes: TaskTracker,
}

/// What a request gets.
enum Reply {
    Now(Vec<u8>),
    /// The work to find out is done elsewhere and answers by itself.
    Later,
    Nothing,
}

impl Core {
    pub(super) fn new(
        settings: Settings,
        defined_heartbeats: Vec<HeartbeatWatch>,
        client: Client,
        capabilities: Capabilities,
        memory: events::Memory,
        monitor: Monitor,
    ) -> Self {
        let sites = Sites::new(&settings);
        Self {
            settings,
            defined_heartbeats,
            client,
            sites,
            monitor,
            results: Results::default(),
            started: Instant::now(),
            changed: Notify::new(),
            driver: OnceLock::new(),
            capabilities: Mutex::new(capabilities),
            memory: Mutex::new(memory),
            cops_heartbeat: AtomicU64::new(0),
            disk_readers: Arc::new(Semaphore::new(DISK_READERS)),
            kernel_readers: Arc::new(Semaphore::new(KERNEL_READERS)),
            writes: TaskTracker::new(),
        }
    }

    /// The registers that must change: those of the configs of these endpoints, and those of the definition files.
    pub(super) fn heartbeats(&self, site: &Topology, endpoints: &[Endpoint]) -> Vec<HeartbeatWatch> {
        let mut watches = HeartbeatWatch::of_topology(&site.heartbeats, endpoints);
        watches.extend(self.defined_heartbeats.iter().cloned());
        watches
    }

    /// The jobs need the core and the core the jobs; the core comes first and gets them here, once.
    pub(super) fn set_driver(&self, driver: Driver) {
        let _ = self.driver.set(driver);
    }

    #[allow(clippy::expect_used)]
    pub(super) fn driver(&self) -> &Driver {
        self.driver.get().expect("the driver is set before the first message is read")
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        lock(&self.capabilities).clone()
    }

    pub(super) fn set_capabilities(&self, capabilities: Capabilities) {
        *lock(&self.capabilities) = capabilities;
        self.changed.notify_one();
    }

    /// Answers one message.
    pub(super) fn handle(self: &Arc<Self>, message: Message) {
        if !is_below(&message.uri, &self.settings.base_uri) {
            return self.monitor.overhear(self, &message.method, &message.uri, message.body.as_deref());
        }
        let replyto = message.replyto.clone().filter(|replyto| !replyto.is_empty());
        let routed = route(&self.settings.base_uri, &message.method, &message.uri, message.body.as_deref());
        let reply = match routed {
            Ok(Some(request)) => self.answer(request, &message, replyto.as_deref()),
            Ok(None) => Ok(Reply::Nothing),
            Err(error) => Err(error),
        };
        let body = match reply {
            Ok(Reply::Now(body)) => body,
            Ok(Reply::Later | Reply::Nothing) => return,
            Err(error) => {
                tracing::debug!(uri = message.uri, from = message.process_name, %error, "refused");
                error_body(error)
            }
        };
        self.deliver(&message.uri, true, body, |body| self.client.reply(&message, body));
    }

    fn answer(self: &Arc<Self>, request: Request, message: &Message, replyto: Option<&str>) -> Result<Reply, ApiError> {
        let now = |body: Vec<u8>| Ok(Reply::Now(body));
        match request {
            Request::StartConnectivity(request) => {
                // What matches nothing is refused now, by name, and not found out by a job.
                connectivity::plan(&request, &self.sites.latest().topology.endpoints)?;
                self.submit(JobKind::Connectivity, &*request, message)
            }
            Request::StartAnalysis(request) => {
                check_path(&request.file, &self.settings.analysis_dirs())?;
                self.submit(JobKind::Analysis, &request, message)
            }
            Request::StartCapture(request) => self.submit(JobKind::Capture, &*request, message),
            Request::CancelJob(job_id) => now(self.job_body(&self.driver().cancel(&job_id)?)),
            Request::Rescan => {
                self.rescan(replyto.map(str::to_owned));
                Ok(Reply::Later)
            }
            Request::CopsHeartbeat(heartbeat) => {
                self.cops_heartbeat.store(heartbeat, Ordering::Relaxed);
                Ok(Reply::Nothing)
            }
            Request::Monitor => now(body_of(&self.monitor_now())),
            Request::MonitorSettings => now(body_of(&self.monitor_now().settings)),
            Request::EnableMonitor(enabled) => {
                self.monitor.set_enabled(enabled)?;
                self.changed.notify_one();
                now(body_of(&self.monitor_now()))
            }
            // The names in a filter may have to be looked up.
            Request::ChangeMonitor(changes) if changes.contains_key("filter") => {
                let (core, replyto) = (Arc::clone(self), replyto.map(str::to_owned));
                tokio::task::spawn_blocking(move || {
                    let changed = core.monitor.change_settings(&changes);
                    let body = changed.map_or_else(error_body, |()| body_of(&core.monitor_now()));
                    if let Some(replyto) = replyto {
                        core.send("set", replyto, body);
                    }
                });
                Ok(Reply::Later)
            }
            Request::ChangeMonitor(changes) => {
                self.monitor.change_settings(&changes)?;
                now(body_of(&self.monitor_now()))
            }
            Request::Trigger(request) => {
                let reason = request.reason.unwrap_or_else(|| format!("{} asked for it", message.process_name));
                let snapshot_id = self.monitor.trigger(reason)?;
                let uri = self.settings.uri(&format!("monitor/snapshots/{snapshot_id}"));
                now(body_of(&TriggerAccepted { snapshot_id, uri, monitor: self.monitor_now() }))
            }
            Request::RetrySink(name) => {
                self.monitor.shipping.retry(&name)?;
                now(body_of(&self.monitor_now()))
            }
            Request::Snapshots(query) => now(fit_snapshots(self.monitor.list(&query), self.body_max())),
            // What was found lies on the disk.
            Request::Snapshot(snapshot_id) => {
                let known = self.monitor.snapshot(&snapshot_id)?;
                self.off_the_runtime(replyto, move |core| Ok(core.snapshot_body(core.monitor.whole(known))))
            }
            Request::PinSnapshot { snapshot_id, pinned } if replyto.is_none() => {
                self.monitor.pin(&snapshot_id, pinned).map(|_| Reply::Nothing)
            }
            Request::PinSnapshot { snapshot_id, pinned } => self.off_the_runtime(replyto, move |core| {
                let known = core.monitor.pin(&snapshot_id, pinned)?;
                Ok(core.snapshot_body(core.monitor.whole(known)))
            }),
            Request::DeleteSnapshot(snapshot_id) if replyto.is_none() => self.monitor.delete(&snapshot_id).map(|_| Reply::Nothing),
            Request::DeleteSnapshot(snapshot_id) => self.off_the_runtime(replyto, move |core| {
                let whole = core.monitor.whole(core.monitor.snapshot(&snapshot_id)?);
                core.monitor.delete(&snapshot_id)?;
                Ok(core.snapshot_body(whole))
            }),
            Request::CopsQuery => now(body_of(&self.cops_answer())),
            Request::Status => now(body_of(&self.status())),
            Request::Summary => now(body_of(&self.summary())),
            Request::Topology => {
                let site = self.sites.latest();
                if site.body.len() <= self.body_max() {
                    return now(site.body.to_vec());
                }
                self.off_the_runtime(replyto, move |core| {
                    Ok(fit_topology(&core.settings.base_uri, &site.topology, core.body_max()).to_vec())
                })
            }
            Request::TopologyEndpoint(endpoint_id) => {
                let detail = endpoint_detail(&self.sites.latest().topology, &endpoint_id, self.body_max());
                now(detail.ok_or_else(|| no_endpoint(&endpoint_id))?)
            }
            Request::TopologyPiece { list, from } => {
                let site = self.sites.latest();
                self.off_the_runtime(replyto, move |core| {
                    Ok(piece(&core.settings.base_uri, &site.topology, list, from, core.body_max()))
                })
            }
            Request::Health => self.off_the_runtime(replyto, |core| {
                let recording = lock(&core.monitor.view).is_recording();
                Ok(core.monitor.series.list(recording, &core.settings.base_uri, core.body_max()))
            }),
            Request::EndpointHealth(endpoint_id) => now(body_of(&self.endpoint_health(&endpoint_id)?)),
            Request::Interfaces => self.interfaces(replyto),
            Request::Jobs(query) => now(fit_jobs(self.driver().list(&query), self.body_max())),
            Request::Job(job_id) => now(self.job_body(&self.job(&job_id)?)),
            Request::JobResult(job_id) => self.job_result(&job_id, replyto),
            Request::JobEndpoint { job_id, endpoint_id } => self.job_endpoint(&job_id, endpoint_id, replyto),
        }
    }

    fn submit(&self, kind: JobKind, request: &impl Serialize, message: &Message) -> Result<Reply, ApiError> {
        let request: Value =
            serde_json::to_value(request).map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
        let requested_by = match message.username.as_deref().filter(|user| !user.is_empty()) {
            Some(user) => format!("{} ({user})", message.process_name),
            None => message.process_name.clone(),
        };
        let job = self.driver().submit(kind, request, Some(requested_by))?;
        let uri = self.settings.uri(&format!("jobs/{}", job.job_id));
        Ok(Reply::Now(body_of(&JobAccepted { job_id: job.job_id, state: job.state, uri })))
    }

    fn rescan(self: &Arc<Self>, replyto: Option<String>) {
        let core = Arc::clone(self);
        tokio::spawn(async move {
            // The reading goes on whether it is waited for or not.
            let scanning = tokio::time::timeout(RESCAN_PATIENCE, core.sites.rescan()).await.is_err();
            if let Some(replyto) = replyto {
                let summary = core.sites.latest().topology.summary(core.settings.uri("topology"), scanning);
                core.send("set", replyto, body_of(&summary));
            }
        });
    }

    fn interfaces(self: &Arc<Self>, replyto: Option<&str>) -> Result<Reply, ApiError> {
        let Some(replyto) = replyto.map(str::to_owned) else { return Ok(Reply::Nothing) };
        let Ok(permit) = Arc::clone(&self.kernel_readers).try_acquire_owned() else {
            return Err(ApiError::new(ErrorCode::Busy, "the interfaces are being read for others; try again in a moment"));
        };
        let core = Arc::clone(self);
        tokio::spawn(async move {
            let list = core.sites.interfaces().await;
            core.send("set", replyto, body_of(&list));
            drop(permit);
        });
        Ok(Reply::Later)
    }

    /// The monitor as it is now.
    pub(super) fn monitor_now(&self) -> crate::api::Monitor {
        let view = lock(&self.monitor.view);
        let monitor = view.monitor();
        let only_waiting = self.monitor.shipping.own_bytes(|snapshot_id| view.knows(snapshot_id));
        drop(view);
        crate::api::Monitor {
            series: Some(self.monitor.series.status()),
            sinks: self.monitor.shipping.status(),
            disk_bytes: monitor.disk_bytes.saturating_add(only_waiting),
            ..monitor
        }
    }

    /// What the archive takes.
    pub(super) fn archive_bytes(&self) -> u64 {
        lock(&self.monitor.view).archive_bytes()
    }

    /// Publishes how the monitor is.
    pub(super) fn publish_monitor(&self) {
        self.publish("monitor", body_of(&self.monitor_now()));
        self.changed.notify_one();
    }

    /// A snapshot as it goes over the bus: with as many findings as fit.
    fn snapshot_body(&self, mut snapshot: Snapshot) -> Vec<u8> {
        loop {
            let body = body_of(&snapshot);
            if body.len() <= self.body_max() || snapshot.findings.is_empty() {
                return body;
            }
            snapshot.findings.truncate(snapshot.findings.len() / 2);
        }
    }

    fn job(&self, job_id: &str) -> Result<Job, ApiError> {
        self.driver().get(job_id).ok_or_else(|| no_job(job_id))
    }

    /// The largest body that can be sent now: the kernel may have given the bus's socket a small buffer.
    pub(super) fn body_max(&self) -> usize {
        self.client.largest_body().min(BODY_MAX)
    }

    /// A job as it goes over the bus.
    pub(super) fn job_body(&self, job: &Job) -> Vec<u8> {
        fit_job(job, self.body_max())
    }

    fn job_result(self: &Arc<Self>, job_id: &str, replyto: Option<&str>) -> Result<Reply, ApiError> {
        let job = self.job(job_id)?;
        if let Some(body) = self.results.body(job_id).filter(|body| body.len() <= self.body_max()) {
            return Ok(Reply::Now(body.to_vec()));
        }
        if !job.state.is_final() {
            let message = format!("the job is {}; its result comes when it has ended", job.phase);
            return Err(ApiError::not_found(message));
        }
        let (base_uri, body_max) = (self.settings.base_uri.clone(), self.body_max());
        self.from_disk(job_id, replyto, move |recorded| Ok(fit_result(&base_uri, recorded, body_max).to_vec()))
    }

    fn job_endpoint(self: &Arc<Self>, job_id: &str, endpoint_id: String, replyto: Option<&str>) -> Result<Reply, ApiError> {
        let job = self.job(job_id)?;
        if let Some(result) = self.results.live(job_id, &endpoint_id) {
            return Ok(Reply::Now(body_of(&*result)));
        }
        if !job.state.is_final() {
            return Err(ApiError::not_found(format!("endpoint `{endpoint_id}` is not decided yet")));
        }
        self.from_disk(job_id, replyto, move |recorded| {
            let result = parse_result(recorded).ok_or_else(|| ApiError::not_found("this job judged no endpoints"))?;
            let endpoint = result.endpoints.iter().find(|endpoint| endpoint.endpoint_id == endpoint_id);
            endpoint.map(body_of).ok_or_else(|| no_endpoint(&endpoint_id))
        })
    }

    /// Answers out of a recorded result, off the runtime.
    fn from_disk(
        self: &Arc<Self>,
        job_id: &str,
        replyto: Option<&str>,
        make: impl FnOnce(&[u8]) -> Result<Vec<u8>, ApiError> + Send + 'static,
    ) -> Result<Reply, ApiError> {
        let job_id = job_id.to_owned();
        self.off_the_runtime(replyto, move |core| match core.driver().store().load_result(&job_id) {
            Ok(Some(recorded)) => make(&recorded),
            Ok(None) => Err(ApiError::not_found("the job left no result")),
            Err(error) => Err(ApiError::new(ErrorCode::Internal, format!("the result cannot be read: {error}"))),
        })
    }

    /// Answers with what takes long to make.
    fn off_the_runtime(
        self: &Arc<Self>,
        replyto: Option<&str>,
        make: impl FnOnce(&Self) -> Result<Vec<u8>, ApiError> + Send + 'static,
    ) -> Result<Reply, ApiError> {
        let Some(replyto) = replyto.map(str::to_owned) else { return Ok(Reply::Nothing) };
        let Ok(permit) = Arc::clone(&self.disk_readers).try_acquire_owned() else {
            return Err(ApiError::new(ErrorCode::Busy, "too many results are being read from disk; try again in a moment"));
        };
        let core = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            core.send("set", replyto, make(&core).unwrap_or_else(error_body));
            drop(permit);
        });
        Ok(Reply::Later)
    }

    fn cops_answer(&self) -> CopsAnswer {
        CopsAnswer {
            cops_heartbeat: self.cops_heartbeat.load(Ordering::Relaxed),
            pid: std::process::id(),
            version_tag: env!("CARGO_PKG_VERSION").to_owned(),
            version_commit: env!("NETDIAG_COMMIT").to_owned(),
            version_build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        }
    }

    /// Publishes a body below the base uri.
    pub(super) fn publish(&self, path: &str, body: Vec<u8>) {
        self.send("pub", self.settings.uri(path), body);
    }

    /// Publishes one endpoint's result.
    pub(super) fn publish_endpoint(&self, job_id: &str, result: &EndpointResult) {
        self.publish(&format!("jobs/{job_id}/endpoints/{}", result.endpoint_id), body_of(result));
    }

    /// Posts a row to the alarm log.
    pub(super) fn post(&self, event: &Event) {
        self.send("post", "/events".to_owned(), body_of(event));
    }

    /// Posts what netdiag itself has to say to the alarm log, with one of the severities of [`Event`].
    pub(super) fn post_row(&self, severity: u8, message: String) {
        self.post(&Event { source: self.settings.process_name.clone(), message, severity });
    }

    /// Posts what a finished test changed, and remembers it for the next one.
    pub(super) fn post_test_events(&self, result: &ConnectivityResult) {
        let site = self.sites.latest();
        let known: HashSet<&str> = site.topology.endpoints.iter().map(|endpoint| endpoint.endpoint_id.as_str()).collect();
        let mut memory = lock(&self.memory);
        let source = &self.settings.process_name;
        for event in events::of_test(source, &mut memory, &known, &result.endpoints, &result.counts, &result.text) {
            self.post(&event);
        }
        let (path, known) = (remembered::place(&self.settings.state_dir), body_of(&*memory));
        self.writes.spawn_blocking(move || {
            if let Err(error) = write_atomically(&path, &known) {
                tracing::warn!(%error, "what is known of the endpoints could not be written");
            }
        });
    }

    fn send(&self, method: &str, uri: String, body: Vec<u8>) {
        let message = |body| Message {
            method: method.to_owned(),
            uri: uri.clone(),
            replyto: None,
            process_name: self.settings.process_name.clone(),
            username: None,
            body: Some(body),
        };
        self.deliver(&uri, method == "set", body, |body| self.client.send(message(body)));
    }

    /// Sends a body. Who waits for it is told if it is too large; else nothing would come.
    fn deliver(&self, uri: &str, is_awaited: bool, body: Vec<u8>, send: impl Fn(Vec<u8>) -> Result<(), SendError>) {
        // The client counts what it cannot send, and status tells the count.
        let Err(error) = send(body) else { return };
        tracing::debug!(%error, uri, "not sent");
        if is_awaited && matches!(error, SendError::TooLarge(_) | SendError::OverSocketLimit { .. }) {
            let too_large = ApiError::new(ErrorCode::Unavailable, format!("the answer cannot be sent: {error}"));
            if let Err(error) = send(error_body(too_large)) {
                tracing::debug!(%error, uri, "not sent");
            }
        }
    }
}

/// The body of a refusal.
pub(super) fn error_body(error: ApiError) -> Vec<u8> {
    body_of(&ErrorBody { error })
}

/// Whether a uri is this one or below it.
fn is_below(uri: &str, base: &str) -> bool {
    uri.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn no_job(job_id: &str) -> ApiError {
    ApiError::not_found(format!("there is no job `{job_id}`; get the list of jobs to see which there are"))
}

fn no_endpoint(endpoint_id: &str) -> ApiError {
    ApiError::not_found(format!("there is no endpoint `{endpoint_id}` here"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
