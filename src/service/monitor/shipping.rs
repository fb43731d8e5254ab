//! Archived snapshots on their way to a historian: for each sink a queue on disk and a task that empties it, again and again until all is
//! taken. Neither the recording nor another sink waits for any of it.

mod room;

use super::{lock, supervision::kept_going};
use crate::{
    api::{ApiError, Event, SinkState, SinkStatus, Snapshot, UtcTime},
    archive::historian::{Outbox, Parcel, Sink, SinkError, SinkSettings, sink},
    http::host_name,
    monitor::{Queue, Refusal, Setback},
    service::{Settings, replies::Core},
};
use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::Path,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    sync::Notify,
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

/// The sinks as the rest of the monitor sees them.
pub(in crate::service) struct Shipping {
    lanes: Vec<Arc<Lane>>,
    /// What was wrong at the start.
    problems: Vec<String>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// A sink, and what waits for it.
struct Lane {
    settings: SinkSettings,
    host: String,
    outbox: Outbox,
    started: Instant,
    state: Mutex<State>,
    /// What was archived is known, so that what is sent can be noted.
    may_begin: Notify,
    arrived: Notify,
    /// Somebody does not want to wait for the next attempt.
    hurried: Notify,
}

#[derive(Default)]
struct State {
    queue: Queue,
    status: SinkStatus,
}

impl Shipping {
    /// With what waited when the service ended. Blocks on the disk.
    pub fn new(settings: &Settings) -> Self {
        let root = settings.state_dir.join("monitor/outbox");
        let (mut lanes, mut problems) = (Vec::new(), Vec::new());
        for settings in &settings.sinks {
            let (lane, problem) = Lane::new(settings.clone(), &root);
            lanes.push(Arc::new(lane));
            problems.extend(problem);
        }
        let known: BTreeSet<&str> = settings.sinks.iter().map(|sink| sink.name.as_str()).collect();
        for folder in fs::read_dir(&root).into_iter().flatten().flatten() {
            let is_known = folder.file_name().to_str().is_some_and(|name| known.contains(name));
            if !is_known && fs::read_dir(folder.path()).is_ok_and(|mut waiting| waiting.next().is_some()) {
                let path = folder.path();
                problems.push(format!("what lies in {} waits for a sink that no setting names any more", path.display()));
            }
        }
        Self { lanes, problems, tasks: Mutex::default() }
    }

    /// Begins to send; within a runtime.
    pub(super) fn start(&self, core: &Arc<Core>) {
        self.problems.iter().for_each(|problem| core.monitor.problem(problem.clone()));
        let run = |lane: &Arc<Lane>| {
            let (lane, core) = (Arc::clone(lane), Arc::downgrade(core));
            let what = format!("what sends to the sink {}", lane.settings.name);
            let mut begun = false;
            let begin = {
                let core = Weak::clone(&core);
                move || {
                    // Once it has begun it need not wait for that again.
                    if std::mem::replace(&mut begun, true) {
                        lane.may_begin.notify_one();
                    }
                    Arc::clone(&lane).run(Weak::clone(&core))
                }
            };
            tokio::spawn(kept_going(what, core, begin))
        };
        lock(&self.tasks).extend(self.lanes.iter().map(run));
    }

    /// What was archived is known; from now on it is sent.
    pub(super) fn begin(&self) {
        self.lanes.iter().for_each(|lane| lane.may_begin.notify_one());
    }

    /// Ends at once; what was on its way waits for the next start.
    pub(super) fn stop(&self) {
        lock(&self.tasks).drain(..).for_each(|task| task.abort());
    }

    /// Takes a snapshot of the archive for every sink. Blocks on the disk.
    pub(super) fn take(&self, core: &Core, snapshot_id: &str, folder: &Path) {
        for lane in &self.lanes {
            let name = &lane.settings.name;
            match lane.take(snapshot_id, folder) {
                Ok(dropped) if dropped.is_empty() => {}
                Ok(dropped) => {
                    let what = dropped.join(", ");
                    core.post_row(Event::ALARM, format!("too much waits for the sink {name}; it will not get {what}"));
                }
                Err(error) => core.monitor.problem(format!("{snapshot_id} cannot be kept for the sink {name}: {error}")),
            }
        }
    }

    /// Whether a snapshot waits for some sink.
    pub(super) fn holds(&self, snapshot_id: &str) -> bool {
        self.lanes.iter().any(|lane| lock(&lane.state).queue.contains(snapshot_id))
    }

    /// How each sink is.
    pub fn status(&self) -> Vec<SinkStatus> {
        self.lanes.iter().map(|lane| lane.status()).collect()
    }

    /// The sinks that have not worked for a while, and why.
    pub fn problems(&self) -> Vec<String> {
        let problem = |lane: &Arc<Lane>| {
            let state = lock(&lane.state);
            let problem = state.status.last_problem.as_ref().filter(|_| state.queue.is_failing())?;
            Some(format!("the sink {} takes nothing, {} snapshots wait: {problem}", lane.settings.name, state.queue.len()))
        };
        self.lanes.iter().filter_map(problem).collect()
    }

    /// Tries a sink again at once.
    ///
    /// # Errors
    /// `not_found`.
    pub fn retry(&self, name: &str) -> Result<(), ApiError> {
        let lane = self.lanes.iter().find(|lane| lane.settings.name == name);
        let lane = lane.ok_or_else(|| {
            ApiError::not_found(format!(
                "there is no sink `{name}`; sinks stand in the settings file, and `get` of `monitor` names them"
            ))
        })?;
        lane.hurried.notify_one();
        Ok(())
    }
}

impl Lane {
    fn new(settings: SinkSettings, root: &Path) -> (Self, Option<String>) {
        let outbox = Outbox::new(root.join(&settings.name));
        let problem = outbox.clean().err().map(|error| format!("the queue of the sink {} cannot be used: {error}", settings.name));
        let mut queue = Queue::default();
        for (name, bytes) in outbox.list() {
            // What fitted when it came is kept.
            queue.add(&name, bytes, u64::MAX);
        }
        let status = SinkStatus {
            name: settings.name.clone(),
            kind: settings.kind.as_str().to_owned(),
            place: settings.told_place(),
            ..SinkStatus::default()
        };
        let lane = Self {
            settings,
            host: host_name(),
            outbox,
            started: Instant::now(),
            state: Mutex::new(State { queue, status }),
            may_begin: Notify::new(),
            arrived: Notify::new(),
            hurried: Notify::new(),
        };
        (lane, problem)
    }

    /// Takes a snapshot, and gives the names of those that had to go for it.
    fn take(&self, snapshot_id: &str, folder: &Path) -> io::Result<Vec<String>> {
        let bytes = self.outbox.put(snapshot_id, folder)?;
        let mut state = lock(&self.state);
        let dropped = state.queue.add(snapshot_id, bytes, self.settings.max_bytes);
        state.status.dropped += dropped.len() as u64;
        drop(state);
        self.arrived.notify_one();
        for name in &dropped {
            if let Err(error) = self.outbox.remove(name) {
                tracing::warn!(sink = self.settings.name, name, %error, "what is given up cannot be removed");
            }
        }
        Ok(dropped)
    }

    fn status(&self) -> SinkStatus {
        let state = lock(&self.state);
        SinkStatus { queued: state.queue.len() as u64, queued_bytes: state.queue.bytes(), ..state.status.clone() }
    }

    /// Sends what waits. Runs until it is aborted.
    async fn run(self: Arc<Self>, core: Weak<Core>) {
        let sink = sink(&self.settings);
        self.may_begin.notified().await;
        loop {
            let Some(next) = self.next().await else {
                self.arrived.notified().await;
                continue;
            };
            let outcome = match next {
                Ok(parcel) => self.send(&*sink, &parcel).await.map(|()| parcel),
                Err(error) => Err(error),
            };
            let Some(core) = core.upgrade() else { return };
            let wait = match outcome {
                Ok(parcel) => {
                    self.sent(&core, &parcel).await;
                    None
                }
                Err(error) => Some(self.failed(&core, &error)),
            };
            core.publish_monitor();
            drop(core);
            if let Some(wait) = wait {
                tokio::select! {
                    () = sleep(wait) => {}
                    () = self.hurried.notified() => {}
                }
                lock(&self.state).status.retry_at = None;
            }
        }
    }

    /// The oldest that waits.
    async fn next(self: &Arc<Self>) -> Option<Result<Arc<Parcel>, SinkError>> {
        while let Some(name) = self.next_name() {
            let lane = Arc::clone(self);
            match spawn_blocking(move || lane.outbox.parcel(&name)).await {
                Ok(Ok(parcel)) => return Some(Ok(Arc::new(parcel))),
                // Like a refusal: it may be for its own sake, and the others have their turn first.
                Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                    return Some(Err(SinkError::Refused(unread(&error))));
                }
                Err(error) => return Some(Err(SinkError::Refused(unread(&error)))),
                // Somebody has cleared it away by hand.
                Ok(Err(_)) => lock(&self.state).queue.gone(),
            }
        }
        None
    }

    fn next_name(&self) -> Option<String> {
        let mut state = lock(&self.state);
        let next = state.queue.take_next();
        state.status.state = if next.is_some() { SinkState::Sending } else { SinkState::Idle };
        next
    }

    async fn send(&self, sink: &dyn Sink, parcel: &Arc<Parcel>) -> Result<(), SinkError> {
        sink.put(&format!("{}_{}.tar", self.host, parcel.name()), Arc::clone(parcel)).await
    }

    async fn sent(self: &Arc<Self>, core: &Arc<Core>, parcel: &Arc<Parcel>) {
        let (lane, sent, told) = (Arc::clone(self), Arc::clone(parcel), Arc::clone(core));
        let cleared = spawn_blocking(move || {
            told.monitor.shipped(sent.name(), &lane.settings.name);
            lane.outbox.remove(sent.name())
        });
        if let Ok(Err(error)) = cleared.await {
            core.monitor.problem(format!("{} was sent, and cannot be cleared away: {error}", parcel.name()));
        }
        self.count_sent(core, parcel.tar_bytes());
    }

    fn count_sent(&self, core: &Core, bytes: u64) {
        let mut state = lock(&self.state);
        let works_again = state.queue.sent();
        let waiting = state.queue.len();
        let status = &mut state.status;
        status.sent += 1;
        status.sent_bytes += bytes;
        status.last_sent_at = Some(now());
        status.last_problem = None;
        drop(state);
        if works_again {
            let message = format!("the sink {} takes snapshots again; {waiting} wait", self.settings.name);
            core.post_row(Event::STATUS, message);
        }
    }

    fn failed(&self, core: &Core, error: &SinkError) -> Duration {
        let (why, problem) = match error {
            SinkError::Unreachable(problem) => (Refusal::Unreachable, problem),
            SinkError::Refused(problem) => (Refusal::Refused, problem),
        };
        let mut state = lock(&self.state);
        let Setback { wait, tell } = state.queue.failed(why, self.started.elapsed(), jitter());
        let waiting = state.queue.len();
        let status = &mut state.status;
        if status.last_problem.as_ref() != Some(problem) {
            tracing::warn!(sink = self.settings.name, problem, "a snapshot could not be sent; it is tried again");
        }
        status.state = SinkState::Waiting;
        status.last_problem = Some(problem.clone());
        status.retry_at = Some(UtcTime::from(SystemTime::now() + wait).to_millis());
        drop(state);
        if tell {
            let message = format!("the sink {} takes nothing, {waiting} snapshots wait: {problem}", self.settings.name);
            core.post_row(Event::ALARM, message);
        }
        wait
    }
}

fn unread(error: &dyn fmt::Display) -> String {
    format!("what waits cannot be read: {error}")
}

fn now() -> UtcTime {
    UtcTime::from(SystemTime::now()).to_millis()
}

/// From 0 to 1; no more than that it differs is asked of it.
fn jitter() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    f64::from(since.subsec_nanos() % 1000) / 999.0
}

/// A snapshot with one more sink that has it.
pub(super) fn with_sink(mut snapshot: Snapshot, sink: &str) -> Snapshot {
    if !snapshot.shipped_to.iter().any(|known| known == sink) {
        snapshot.shipped_to.push(sink.to_owned());
    }
    snapshot
}
