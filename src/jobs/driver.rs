//! The one driver: all changes of a job go through it, and it runs what is to be run.

use super::{Cancelled, Found, Jobs, Limits, RecordError, Refusal, Store, recorder::Recorder};
use crate::api::{Job, JobKind, JobQuery, JobState, JobSummary, UtcTime};
use async_trait::async_trait;
use serde_json::Value;
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The shortest time between two publications of a job's progress.
const PROGRESS_PERIOD: Duration = Duration::from_millis(500);

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The final state.
    pub state: JobState,
    /// Why it failed.
    pub error: Option<String>,
    /// What it found.
    pub summary: Option<JobSummary>,
}

impl Outcome {
    /// A failure, and why.
    pub fn failed(error: impl Into<String>) -> Self {
        Self { state: JobState::Failed, error: Some(error.into()), summary: None }
    }
}

/// What does the work of one kind of job.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Does the work. It must return soon after `context.cancel` is cancelled, with what was done until then.
    async fn run(&self, context: JobContext) -> Outcome;
}

/// Told of each change of a job, in the order in which they were made. It must not block, and not ask the driver anything: the jobs
/// stand still while it is told.
pub type JobObserver = Box<dyn Fn(&Job) + Send + Sync>;

/// What a runner gets: the job, its folder, and how to tell its progress.
#[derive(Clone)]
pub struct JobContext {
    /// The job as it began.
    pub job: Job,
    /// Its folder on disk; it exists if the disk allowed it.
    pub dir: PathBuf,
    /// Cancelled when the job is to stop.
    pub cancel: CancellationToken,
    driver: Driver,
}

impl JobContext {
    /// Tells how far the work is, from 0 to 1, and what it is doing. Published at most twice a second, and on each change of phase.
    pub fn progress(&self, progress: f64, phase: &str) {
        self.driver.progress(&self.job.job_id, progress, phase);
    }
}

/// The handle to all jobs; cheap to clone.
#[derive(Clone)]
pub struct Driver {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    runners: HashMap<JobKind, Arc<dyn Runner>>,
    observer: JobObserver,
    store: Store,
    recorder: Recorder,
    stopping: CancellationToken,
}

struct State {
    jobs: Jobs,
    cancels: HashMap<String, CancellationToken>,
    running: Vec<JoinHandle<()>>,
    progress_told: HashMap<String, Instant>,
}

impl Driver {
    /// Takes up the jobs that the store remembers (those that had not ended become `interrupted`) and is ready for more.
    ///
    /// Blocks on the disk. The second value says which records could not be read. Folders of damaged ones are kept as long as those of
    /// other jobs.
    pub fn new(
        store: Store,
        limits: Limits,
        runners: HashMap<JobKind, Arc<dyn Runner>>,
        observer: JobObserver,
    ) -> (Self, Vec<RecordError>) {
        let Found { jobs: remembered, damaged, problems } = store.load_all();
        let mut jobs = Jobs::new(limits);
        let on_disk = remembered.iter().map(|job| &job.job_id).chain(&damaged).cloned().collect();
        store.tidy();
        let recorder = Recorder::spawn(store.clone(), on_disk);
        for job in jobs.restore(remembered, now()) {
            recorder.save(&job);
        }
        for job_id in jobs.outlived(&damaged).into_iter().chain(jobs.prune()) {
            recorder.remove(&job_id);
        }
        let state = State { jobs, cancels: HashMap::new(), running: Vec::new(), progress_told: HashMap::new() };
        let inner = Inner { state: Mutex::new(state), runners, observer, store, recorder, stopping: CancellationToken::new() };
        (Self { inner: Arc::new(inner) }, problems)
    }

    /// Accepts a job, and begins it if none of its kind is at work. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when too many of its kind wait, [`Refusal::Stopping`] when the service ends.
    pub fn submit(&self, kind: JobKind, request: Value, requested_by: Option<String>) -> Result<Job, Refusal> {
        let job = {
            let mut state = self.state();
            if self.inner.stopping.is_cancelled() {
                return Err(Refusal::Stopping);
            }
            let job_id = state.jobs.id_after_all(uuid::Uuid::now_v7()).to_string();
            let job = state.jobs.submit(job_id, kind, request, requested_by, now())?;
            self.changed(&state, &job);
            job
        };
        self.start_waiting();
        Ok(job)
    }

    /// Cancels a job and returns it as it then stands.
    ///
    /// # Errors
    /// When there is no such job, or it has ended.
    pub fn cancel(&self, job_id: &str) -> Result<Job, Refusal> {
        let mut state = self.state();
        let (cancelled, job) = state.jobs.cancel(job_id, now())?;
        self.changed(&state, &job);
        if cancelled == Cancelled::Asked
            && let Some(cancel) = state.cancels.get(job_id)
        {
            cancel.cancel();
        }
        Ok(job)
    }

    /// One job as it stands.
    pub fn get(&self, job_id: &str) -> Option<Job> {
        self.state().jobs.get(job_id).cloned()
    }

    /// The jobs that a query asks for, newest first.
    pub fn list(&self, query: &JobQuery) -> Vec<Job> {
        self.state().jobs.list(query)
    }

    /// The job of a kind that is at work.
    pub fn running(&self, kind: JobKind) -> Option<Job> {
        self.state().jobs.running(kind).cloned()
    }

    /// How many jobs are queued or running.
    pub fn unfinished(&self) -> usize {
        self.state().jobs.unfinished()
    }

    /// The newest job of a kind that has ended.
    pub fn last_finished(&self, kind: JobKind) -> Option<Job> {
        self.state().jobs.last_finished(kind).cloned()
    }

    /// The newest connectivity test that judged endpoints.
    pub fn last_judged(&self) -> Option<Job> {
        self.state().jobs.last_judged().cloned()
    }

    /// The record on disk.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// What the disk refused, if the latest write failed.
    pub fn disk_problem(&self) -> Option<String> {
        self.inner.recorder.problem()
    }

    /// Stops: nothing more begins, what runs is told to stop and is waited for up to `patience`, and all is written to disk. Whatever
    /// did not come to an end is `interrupted`.
    pub async fn stop(&self, patience: Duration) {
        self.inner.stopping.cancel();
        let running = {
            let mut state = self.state();
            for cancel in state.cancels.values() {
                cancel.cancel();
            }
            for job in state.jobs.interrupt_queued(now()) {
                self.changed(&state, &job);
            }
            std::mem::take(&mut state.running)
        };
        let _ = tokio::time::timeout(patience, futures::future::join_all(running)).await;
        let stuck: Vec<String> = self.state().cancels.keys().cloned().collect();
        for job_id in stuck {
            self.finish(&job_id, Outcome { state: JobState::Interrupted, error: None, summary: None });
        }
        let recorder = self.inner.recorder.clone();
        let _ = tokio::task::spawn_blocking(move || recorder.flush(patience)).await;
    }

    fn start_waiting(&self) {
        loop {
            let context = {
                let mut state = self.state();
                if self.inner.stopping.is_cancelled() {
                    return;
                }
                let Some(job) = state.jobs.next(now()) else { return };
                let cancel = CancellationToken::new();
                state.cancels.insert(job.job_id.clone(), cancel.clone());
                self.changed(&state, &job);
                JobContext { dir: self.inner.store.job_dir(&job.job_id), job, cancel, driver: self.clone() }
            };
            let driver = self.clone();
            let task = tokio::spawn(async move { driver.run(context).await });
            let mut state = self.state();
            state.running.retain(|task| !task.is_finished());
            state.running.push(task);
        }
    }

    async fn run(self, context: JobContext) {
        let job_id = context.job.job_id.clone();
        let outcome = match self.inner.runners.get(&context.job.kind).cloned() {
            // In a task of its own, so that a panic ends this job and nothing else.
            Some(runner) => match tokio::spawn(async move { runner.run(context).await }).await {
                Ok(outcome) => outcome,
                Err(error) => Outcome::failed(format!("netdiag itself failed: {error}; please report this")),
            },
            None => Outcome::failed("this build cannot do such a job"),
        };
        self.finish(&job_id, outcome);
        self.start_waiting();
    }

    fn finish(&self, job_id: &str, outcome: Outcome) {
        // A job that was stopped because the service ends was interrupted, whatever its runner calls it.
        let (final_state, error) = match outcome.state {
            JobState::Cancelled | JobState::Interrupted if self.inner.stopping.is_cancelled() => {
                (JobState::Interrupted, Some("the service ended before the job did".to_owned()))
            }
            state => (state, outcome.error),
        };
        let mut state = self.state();
        state.cancels.remove(job_id);
        state.progress_told.remove(job_id);
        match state.jobs.finish(job_id, final_state, error, outcome.summary, now()) {
            Ok(job) => self.changed(&state, &job),
            Err(refusal) => tracing::error!(job_id, %refusal, "a job could not be ended"),
        }
        for job_id in state.jobs.prune() {
            self.inner.recorder.remove(&job_id);
        }
    }

    fn progress(&self, job_id: &str, progress: f64, phase: &str) {
        let mut state = self.state();
        let same_phase = state.jobs.get(job_id).is_some_and(|job| job.phase == phase);
        let told_lately = state.progress_told.get(job_id).is_some_and(|told| told.elapsed() < PROGRESS_PERIOD);
        if same_phase && told_lately {
            return;
        }
        // The job may have ended first; then there is nothing to tell.
        if let Ok(job) = state.jobs.progress(job_id, progress, phase) {
            state.progress_told.insert(job_id.to_owned(), Instant::now());
            (self.inner.observer)(&job);
        }
    }

    /// Records and tells a change. The lock is held all the while, or a later change could overtake this one.
    fn changed(&self, _held: &MutexGuard<'_, State>, job: &Job) {
        self.inner.recorder.save(job);
        (self.inner.observer)(job);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.inner.state)
    }
}

fn now() -> UtcTime {
    UtcTime::from(SystemTime::now()).to_millis()
}

/// A lock that goes on after a panic elsewhere: every change under it is complete before the next statement can panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works until it is cancelled, or for as many milliseconds as the request says; panics on `"panic"`.
    struct Sleeper;

    #[async_trait]
    impl Runner for Sleeper {
        async fn run(&self, context: JobContext) -> Outcome {
            assert_ne!(context.job.request, Value::from("panic"));
            let time = Duration::from_millis(context.job.request.as_u64().unwrap_or(60_000));
            context.progress(0.5, "asleep");
            tokio::select! {
                () = context.cancel.cancelled() => Outcome { state: JobState::Cancelled, error: None, summary: None },
                () = tokio::time::sleep(time) => Outcome { state: JobState::Succeeded, error: None, summary: None },
            }
        }
    }

    type Seen = Arc<Mutex<Vec<(String, JobState)>>>;

    fn driver(dir: &std::path::Path) -> (Driver, Seen) {
        let seen = Seen::default();
        let observed = Arc::clone(&seen);
        let observer: JobObserver = Box::new(move |job| lock(&observed).push((job.job_id.clone(), job.state)));
        let runners = HashMap::from([(JobKind::Connectivity, Arc::new(Sleeper) as Arc<dyn Runner>)]);
        let (driver, problems) = Driver::new(Store::open(dir).unwrap(), Limits::default(), runners, observer);
        assert!(problems.is_empty());
        (driver, seen)
    }

    async fn until(driver: &Driver, job_id: &str, wanted: JobState) -> Job {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let job = driver.get(job_id).unwrap();
            if job.state == wanted {
                return job;
            }
            assert!(Instant::now() < deadline, "still {:?}", job.state);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn a_second_test_waits_and_a_cancel_ends_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let (driver, seen) = driver(dir.path());
        let first = driver.submit(JobKind::Connectivity, Value::Null, None).unwrap();
        let second = driver.submit(JobKind::Connectivity, Value::from(1), Some("test".to_owned())).unwrap();
        until(&driver, &first.job_id, JobState::Running).await;
        assert_eq!(driver.get(&second.job_id).unwrap().state, JobState::Queued);
        driver.cancel(&first.job_id).unwrap();
        until(&driver, &first.job_id, JobState::Cancelled).await;
        let done = until(&driver, &second.job_id, JobState::Succeeded).await;
        assert_eq!((done.progress, done.requested_by.as_deref()), (1.0, Some("test")));
        let states: Vec<_> = lock(&seen).iter().filter(|(id, _)| *id == second.job_id).map(|(_, state)| *state).collect();
        assert_eq!(states, [JobState::Queued, JobState::Running, JobState::Running, JobState::Succeeded]);
    }

    #[tokio::test]
    async fn a_panic_fails_its_job_and_the_next_one_runs() {
        let dir = tempfile::tempdir().unwrap();
        let (driver, _) = driver(dir.path());
        let bad = driver.submit(JobKind::Connectivity, Value::from("panic"), None).unwrap();
        let good = driver.submit(JobKind::Connectivity, Value::from(1), None).unwrap();
        assert!(until(&driver, &bad.job_id, JobState::Failed).await.error.unwrap().contains("netdiag itself failed"));
        until(&driver, &good.job_id, JobState::Succeeded).await;
    }

    #[tokio::test]
    async fn a_stop_interrupts_and_the_next_start_remembers() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _) = driver(dir.path());
        let done = first.submit(JobKind::Connectivity, Value::from(1), None).unwrap();
        until(&first, &done.job_id, JobState::Succeeded).await;
        let running = first.submit(JobKind::Connectivity, Value::Null, None).unwrap();
        let waiting = first.submit(JobKind::Connectivity, Value::Null, None).unwrap();
        until(&first, &running.job_id, JobState::Running).await;
        first.stop(Duration::from_secs(2)).await;
        for job in [&running, &waiting] {
            assert_eq!(first.get(&job.job_id).unwrap().state, JobState::Interrupted);
        }
        let (second, _) = driver(dir.path());
        assert_eq!(second.get(&done.job_id).unwrap().state, JobState::Succeeded);
        assert_eq!(second.get(&running.job_id).unwrap().state, JobState::Interrupted);
        assert_eq!(second.get(&waiting.job_id).unwrap().state, JobState::Interrupted);
        assert_eq!(second.unfinished(), 0);
    }

    #[tokio::test]
    async fn a_job_that_comes_while_the_service_stops_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (driver, _) = driver(dir.path());
        driver.stop(Duration::from_secs(2)).await;
        assert_eq!(driver.submit(JobKind::Connectivity, Value::Null, None), Err(Refusal::Stopping));
        assert_eq!(driver.unfinished(), 0);
    }

    #[tokio::test]
    async fn folders_of_damaged_records_go_when_they_are_old() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut ids = Jobs::new(Limits::default());
        let mut id = || {
            let id = ids.id_after_all(uuid::Uuid::now_v7()).to_string();
            ids.submit(id.clone(), JobKind::Analysis, Value::Null, None, now()).unwrap();
            ids.cancel(&id, now()).unwrap().1
        };
        let (old, kept, newest, damaged_now) = (id(), id(), id(), id());
        for job in [&kept, &newest] {
            store.save(job).unwrap();
        }
        for job in [&old, &damaged_now] {
            store.save_result(&job.job_id, b"{}").unwrap();
            std::fs::write(store.job_dir(&job.job_id).join("job.json"), "").unwrap();
        }
        std::fs::create_dir(store.job_dir("0-not-ours")).unwrap();
        let limits = Limits { finished_kept: 2, ..Limits::default() };
        let (driver, problems) = Driver::new(store.clone(), limits, HashMap::new(), Box::new(|_| {}));
        assert_eq!(problems.len(), 3, "{problems:?}");
        driver.stop(Duration::from_secs(5)).await;
        let left = |job: &Job| store.job_dir(&job.job_id).exists();
        assert_eq!([left(&old), left(&kept), left(&newest), left(&damaged_now)], [false, true, true, true]);
        assert!(store.job_dir("0-not-ours").exists());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn changes_are_told_in_the_order_in_which_they_were_made() {
        let dir = tempfile::tempdir().unwrap();
        let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
        let observed = Arc::clone(&seen);
        // Slow to hear of the beginning, so that the end would overtake it.
        let observer: JobObserver = Box::new(move |job| {
            if job.generation == 1 {
                std::thread::sleep(Duration::from_millis(100));
            }
            lock(&observed).push(job.generation);
        });
        let (driver, _) = Driver::new(Store::open(dir.path()).unwrap(), Limits::default(), HashMap::new(), observer);
        let submitting = tokio::task::spawn_blocking({
            let (driver, runtime) = (driver.clone(), tokio::runtime::Handle::current());
            move || {
                let _runtime = runtime.enter();
                driver.submit(JobKind::Connectivity, Value::Null, None).unwrap()
            }
        });
        let cancelling = tokio::task::spawn_blocking({
            let driver = driver.clone();
            move || {
                let job = loop {
                    match driver.list(&JobQuery::default()).pop() {
                        Some(job) => break job,
                        None => std::thread::sleep(Duration::from_millis(1)),
                    }
                };
                let _ = driver.cancel(&job.job_id);
            }
        });
        let job = submitting.await.unwrap();
        cancelling.await.unwrap();
        driver.stop(Duration::from_secs(2)).await;
        let seen = lock(&seen).clone();
        assert!(seen.len() > 1 && seen.is_sorted(), "{seen:?}");
        assert_eq!(driver.store().load_all().jobs, [driver.get(&job.job_id).unwrap()]);
    }

    #[tokio::test]
    async fn one_job_too_many_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (driver, _) = driver(dir.path());
        for _ in 0..9 {
            driver.submit(JobKind::Connectivity, Value::Null, None).unwrap();
        }
        assert_eq!(driver.submit(JobKind::Connectivity, Value::Null, None), Err(Refusal::Busy { queued: 8 }));
        driver.stop(Duration::from_secs(2)).await;
    }
}
