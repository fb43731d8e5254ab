//! From settings to a running service, and its orderly end.

use super::{
    Settings, SettingsError,
    first_look::AnalysisRunner,
    freshness,
    monitor::Monitor,
    publisher, remembered,
    replies::{Core, error_body},
    runners::{CaptureRunner, ConnectivityRunner, capture_capability},
    supervised::{Pulse, Supervisor},
};
use crate::{
    api::{ApiError, Capabilities, ErrorCode, JobKind},
    fims::{self, Cipher, CipherError, ClientOptions, Incoming, Subscription},
    jobs::{Driver, Limits, RecordError, Runner, Store},
    probe::NetworkProber,
};
use nix::fcntl::{Flock, FlockArg};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How long a running job may take to stop when the service ends.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// How long after a refusal the bus is asked again for the uris of the rules.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// How long filing the open snapshots may take when the service ends.
const FILE_PATIENCE: Duration = Duration::from_secs(20);

/// Why the service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A setting cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The state directory cannot be used.
    #[error("cannot keep state: {0}; make the directory writable for this user, or choose another with --state-dir")]
    State(#[from] RecordError),
    /// Another netdiag uses the state directory.
    #[error("another netdiag is running on the state directory {}; give this one its own with --state-dir", .0.display())]
    InUse(PathBuf),
    /// The bus's key cannot be read.
    #[error(transparent)]
    Key(#[from] CipherError),
    /// A task without which the service is deaf or dumb has ended.
    #[error("netdiag itself failed: {task} {how}; please report this. Whoever started it should start it anew")]
    Died {
        /// What it did.
        task: &'static str,
        /// How it ended.
        how: String,
    },
}

/// Runs the service until `stop` is cancelled. A bus that is not there yet is waited for.
///
/// # Errors
/// When the settings, the state directory or the key cannot be used, or when a part of the service died.
pub async fn serve(settings: Settings, stop: CancellationToken) -> Result<(), ServeError> {
    settings.validate()?;
    let heartbeats = settings.heartbeat_watches()?;
    let store = Store::open(&settings.state_dir)?;
    let _only_one = lock_state(&settings.state_dir)?;
    let supervisor = Supervisor::from_env();
    let cipher = Cipher::from_file_if_present(&settings.fims_key)?;
    let busy = error_body(ApiError::new(ErrorCode::Busy, "netdiag gets more messages than it can answer; try again in a moment"));
    let monitor = Monitor::new(&settings);
    let mut rule_uris = monitor.uris();
    let subscriptions = subscriptions(&settings.base_uri, &rule_uris.borrow_and_update());
    let (client, incoming) = fims::connect(ClientOptions {
        subscriptions,
        cipher,
        urgent: vec![settings.uri("cops")],
        overflow_reply: Some(busy),
        ..ClientOptions::new(settings.socket.clone(), settings.process_name.clone())
    });
    let capabilities = Capabilities { ping: NetworkProber::new().ping_capability(), capture: capture_capability().await };
    let memory = remembered::recall(&settings.state_dir);
    let core = Arc::new(Core::new(settings, heartbeats, client, capabilities, memory, monitor));
    core.set_driver(driver(&core, store).await);
    tracing::info!(
        socket = %core.settings.socket.display(), base_uri = core.settings.base_uri, state_dir = %core.settings.state_dir.display(),
        config_dirs = ?core.settings.config_dirs, "netdiag {} serves", env!("CARGO_PKG_VERSION")
    );
    core.monitor.start(&core);
    let (reading, keep_fresh) = Pulse::of(freshness::keep_fresh(Arc::clone(&core)));
    let (publishing, publish) = Pulse::of(publisher::publish(Arc::clone(&core)));
    let (answering, answer) = Pulse::of(answer(Arc::clone(&core), incoming));
    let listen = listen(Arc::clone(&core), rule_uris);
    let tasks = [("reading", reading), ("publishing", publishing), ("answering", answering)];
    let tasks = tasks.map(|(task, pulse)| (task, pulse, Duration::ZERO));
    let pulses: Vec<(&str, Pulse, Duration)> = tasks.into_iter().chain(core.monitor.pulses()).collect();
    let mut vital = [
        ("reading", tokio::spawn(keep_fresh)),
        ("publishing", tokio::spawn(publish)),
        ("answering", tokio::spawn(answer)),
        ("listening", tokio::spawn(listen)),
    ];
    // A bus that is not there yet is no reason to wait: the service is set up, and looks for it.
    supervisor.ready("reading the configs");
    let ended = tokio::select! {
        ended = until_stopped(&stop, &mut vital) => ended,
        () = supervisor.keep_told(&pulses, || core.status_line()) => Ok(()),
    };
    match &ended {
        Ok(()) => tracing::info!("netdiag stops"),
        Err(error) => tracing::error!(%error, "netdiag stops"),
    }
    supervisor.stopping(&ended.as_ref().err().map_or_else(|| "stopping".to_owned(), ToString::to_string));
    core.driver().stop(STOP_PATIENCE).await;
    let monitored = Arc::clone(&core);
    let closing = tokio::task::spawn_blocking(move || monitored.monitor.stop());
    if tokio::time::timeout(FILE_PATIENCE, closing).await.is_err() {
        tracing::warn!("open snapshots could not be filed in time; the next start will");
    }
    core.writes.close();
    let _ = tokio::time::timeout(STOP_PATIENCE, core.writes.wait()).await;
    vital.iter().for_each(|(_, task)| task.abort());
    core.client.clone().close().await;
    ended
}

/// Waits for the word to stop. The tasks never end by themselves: if one does, the service could go on for months without a word.
async fn until_stopped(stop: &CancellationToken, vital: &mut [(&'static str, JoinHandle<()>)]) -> Result<(), ServeError> {
    let any = futures::future::select_all(vital.iter_mut().map(|(_, task)| task));
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        (ended, index, _) = any => {
            let how = ended.err().map_or_else(|| "has ended by itself".to_owned(), |error| format!("broke off: {error}"));
            Err(ServeError::Died { task: vital.get(index).map_or("a task", |(task, _)| task), how })
        }
    }
}

/// Reads messages and answers them, the supervisor's first.
async fn answer(core: Arc<Core>, mut incoming: Incoming) {
    while let Some(message) = incoming.recv().await {
        core.handle(message);
        // A flood must not keep this worker from the other tasks.
        tokio::task::consume_budget().await;
    }
}

/// Hears what the monitor's rules need, also when they change.
async fn listen(core: Arc<Core>, mut rule_uris: watch::Receiver<Vec<String>>) {
    let mut changed = rule_uris.changed().await;
    while changed.is_ok() {
        let wanted = subscriptions(&core.settings.base_uri, &rule_uris.borrow_and_update());
        // Waits for the bus, however long it is away.
        let refused = core.client.subscribe(wanted).await.err();
        if let Some(error) = &refused {
            core.monitor.problem(format!("the uris of the monitor's rules are not heard: {error}"));
        }
        changed = match refused {
            None => rule_uris.changed().await,
            Some(_) => tokio::time::timeout(ASK_AGAIN, rule_uris.changed()).await.unwrap_or(Ok(())),
        };
    }
}

/// Everything that is asked of netdiag, and what the rules need.
fn subscriptions(base_uri: &str, rule_uris: &[String]) -> Vec<Subscription> {
    std::iter::once(base_uri).chain(rule_uris.iter().map(String::as_str)).map(Subscription::all).collect()
}

async fn driver(core: &Arc<Core>, store: Store) -> Driver {
    let limits = Limits { queued_per_kind: core.settings.jobs_queued, finished_kept: core.settings.jobs_kept };
    let runners = HashMap::from([
        (JobKind::Connectivity, Arc::new(ConnectivityRunner(Arc::downgrade(core))) as Arc<dyn Runner>),
        (JobKind::Capture, Arc::new(CaptureRunner(Arc::downgrade(core))) as Arc<dyn Runner>),
        (JobKind::Analysis, Arc::new(AnalysisRunner(Arc::downgrade(core))) as Arc<dyn Runner>),
    ]);
    let observed: Weak<Core> = Arc::downgrade(core);
    let observer = Box::new(move |job: &crate::api::Job| {
        if let Some(core) = observed.upgrade() {
            core.publish(&format!("jobs/{}", job.job_id), core.job_body(job));
            core.changed.notify_one();
        }
    });
    let (driver, problems) = Driver::new(store, limits, runners, observer);
    for problem in problems {
        tracing::warn!(%problem, "a job's record cannot be read");
    }
    driver
}

/// Two services on one directory would take each other's jobs for interrupted ones.
fn lock_state(state_dir: &Path) -> Result<Flock<fs::File>, ServeError> {
    let path = state_dir.join("lock");
    let file = fs::File::create(&path).map_err(|source| RecordError { path, source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| ServeError::InUse(state_dir.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_dies_ends_the_service_by_name() {
        let stop = CancellationToken::new();
        let idle = || tokio::spawn(std::future::pending::<()>());
        let mut vital = [("publishing", idle()), ("answering", tokio::spawn(async { panic!("a fault") }))];
        let error = until_stopped(&stop, &mut vital).await.unwrap_err().to_string();
        assert!(error.contains("answering broke off") && error.contains("a fault"), "{error}");
        let mut vital = [("publishing", tokio::spawn(async {})), ("answering", idle())];
        let error = until_stopped(&stop, &mut vital).await.unwrap_err().to_string();
        assert!(error.contains("publishing has ended"), "{error}");
        let mut vital = [("publishing", idle()), ("answering", idle())];
        stop.cancel();
        until_stopped(&stop, &mut vital).await.unwrap();
    }
}
