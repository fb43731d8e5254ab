//! From settings to a running service, and its orderly end.

use super::{
    Settings, SettingsError, events, freshness, publisher,
    replies::{Core, error_body},
    results::body_of,
    runners::{CaptureRunner, ConnectivityRunner, capture_capability},
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
use tokio_util::sync::CancellationToken;

/// How long a running job may take to stop when the service ends.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

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
}

/// Runs the service until `stop` is cancelled. A bus that is not there yet is waited for.
///
/// # Errors
/// When the settings, the state directory or the key cannot be used.
pub async fn serve(settings: Settings, stop: CancellationToken) -> Result<(), ServeError> {
    settings.validate()?;
    let store = Store::open(&settings.state_dir)?;
    let _only_one = lock_state(&settings.state_dir)?;
    let cipher = Cipher::from_file_if_present(&settings.fims_key)?;
    let busy = error_body(ApiError::new(ErrorCode::Busy, "netdiag gets more messages than it can answer; try again in a moment"));
    let (client, incoming) = fims::connect(ClientOptions {
        subscriptions: vec![Subscription::all(settings.base_uri.clone())],
        cipher,
        urgent: vec![settings.uri("cops")],
        overflow_reply: Some(busy),
        ..ClientOptions::new(settings.socket.clone(), settings.process_name.clone())
    });
    let capabilities = Capabilities { ping: NetworkProber::new().ping_capability(), capture: capture_capability().await };
    let memory = read_memory(&settings.state_dir);
    let core = Arc::new(Core::new(settings, client, capabilities, memory));
    core.set_driver(driver(&core, store).await);
    tracing::info!(
        socket = %core.settings.socket.display(), base_uri = core.settings.base_uri, state_dir = %core.settings.state_dir.display(),
        config_dirs = ?core.settings.config_dirs, "netdiag {} serves", env!("CARGO_PKG_VERSION")
    );
    let reading = tokio::spawn(freshness::keep_fresh(Arc::clone(&core)));
    let publishing = tokio::spawn(publisher::publish(Arc::clone(&core)));
    let answering = tokio::spawn(answer(Arc::clone(&core), incoming));
    stop.cancelled().await;
    tracing::info!("netdiag stops");
    core.driver().stop(STOP_PATIENCE).await;
    for task in [&reading, &publishing, &answering] {
        task.abort();
    }
    core.client.clone().close().await;
    Ok(())
}

/// Reads messages and answers them, the supervisor's first.
async fn answer(core: Arc<Core>, mut incoming: Incoming) {
    while let Some(message) = incoming.recv().await {
        core.handle(message);
        // A flood must not keep this worker from the other tasks.
        tokio::task::consume_budget().await;
    }
}

async fn driver(core: &Arc<Core>, store: Store) -> Driver {
    let limits = Limits { queued_per_kind: core.settings.jobs_queued, finished_kept: core.settings.jobs_kept };
    let runners = HashMap::from([
        (JobKind::Connectivity, Arc::new(ConnectivityRunner(Arc::downgrade(core))) as Arc<dyn Runner>),
        (JobKind::Capture, Arc::new(CaptureRunner(Arc::downgrade(core))) as Arc<dyn Runner>),
    ]);
    let observed: Weak<Core> = Arc::downgrade(core);
    let observer = Box::new(move |job: &crate::api::Job| {
        if let Some(core) = observed.upgrade() {
            core.publish(&format!("jobs/{}", job.job_id), body_of(job));
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

fn read_memory(state_dir: &Path) -> events::Memory {
    let path = state_dir.join("endpoints.json");
    match fs::read(&path).map(|json| serde_json::from_slice(&json)) {
        Ok(Ok(memory)) => memory,
        Ok(Err(error)) => {
            tracing::warn!(%error, path = %path.display(), "what was known of the endpoints cannot be read; it starts anew");
            events::Memory::new()
        }
        Err(_) => events::Memory::new(),
    }
}
