//! Writes records in a thread of its own, so that a slow disk holds up no reply. What could not be written is owed, and tried again.

use super::{Store, driver::lock};
use crate::api::Job;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long after a failed write it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The handle to the writing thread; the thread ends with the last handle.
///
/// What waits to be written is a map by job, so a job that changes faster than the disk writes is written as it last stood, and the
/// memory used is bounded by the number of jobs that are known.
#[derive(Clone)]
pub(super) struct Recorder {
    shared: Arc<Shared>,
    /// Dropped with the last handle.
    _alive: Arc<Alive>,
}

struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        lock(&self.0.waiting).ending = true;
        self.0.changed.notify_all();
    }
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    writes: BTreeMap<String, Write>,
    on_disk: HashSet<String>,
    at_work: bool,
    ending: bool,
    problem: Option<String>,
}

/// What is to be done with a job's folder.
struct Write {
    /// `None` is a removal.
    job: Option<Job>,
    /// When to try again, if it has failed.
    again_at: Option<Instant>,
}

impl Write {
    fn new(job: Option<Job>) -> Self {
        Self { job, again_at: None }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.again_at.is_none_or(|at| at <= now)
    }
}

impl Recorder {
    /// Starts the thread. `on_disk` names the jobs that the store holds already.
    pub(super) fn spawn(store: Store, on_disk: HashSet<String>) -> Self {
        Self::trying_again_after(TRY_AGAIN, store, on_disk)
    }

    fn trying_again_after(pause: Duration, store: Store, on_disk: HashSet<String>) -> Self {
        let shared = Arc::new(Shared::default());
        lock(&shared.waiting).on_disk = on_disk;
        let writer = Arc::clone(&shared);
        let spawned = std::thread::Builder::new().name("job-record".to_owned()).spawn(move || writer.write_all(&store, pause));
        if let Err(error) = spawned {
            lock(&shared.waiting).problem = Some(format!("jobs are not recorded: no thread for it: {error}"));
        }
        let alive = Arc::new(Alive(Arc::clone(&shared)));
        Self { shared, _alive: alive }
    }

    /// Has a job written as it stands.
    pub(super) fn save(&self, job: &Job) {
        lock(&self.shared.waiting).writes.insert(job.job_id.clone(), Write::new(Some(job.clone())));
        self.shared.changed.notify_all();
    }

    /// Has a job removed.
    pub(super) fn remove(&self, job_id: &str) {
        {
            let mut waiting = lock(&self.shared.waiting);
            waiting.writes.remove(job_id);
            if waiting.on_disk.contains(job_id) {
                waiting.writes.insert(job_id.to_owned(), Write::new(None));
            }
        }
        self.shared.changed.notify_all();
    }

    /// Waits until all is written or has failed once more, or until `patience` is over.
    pub(super) fn flush(&self, patience: Duration) {
        let mut waiting = lock(&self.shared.waiting);
        waiting.writes.values_mut().for_each(|write| write.again_at = write.again_at.map(|_| Instant::now()));
        self.shared.changed.notify_all();
        let busy = |waiting: &mut Waiting| waiting.at_work || waiting.next_due(Instant::now()).is_some();
        let _ = self.shared.changed.wait_timeout_while(waiting, patience, busy);
    }

    /// What the disk refused, as long as something is owed to it.
    pub(super) fn problem(&self) -> Option<String> {
        lock(&self.shared.waiting).problem.clone()
    }
}

impl Waiting {
    fn next_due(&self, now: Instant) -> Option<&String> {
        self.writes.iter().find(|(_, write)| write.is_due(now)).map(|(job_id, _)| job_id)
    }
}

impl Shared {
    fn write_all(&self, store: &Store, pause: Duration) {
        while let Some((job_id, write)) = self.take() {
            let result = match &write.job {
                Some(job) => store.save(job),
                None => store.remove(&job_id),
            };
            let mut waiting = lock(&self.waiting);
            waiting.at_work = false;
            match result {
                Ok(()) => {
                    if write.job.is_none() {
                        waiting.on_disk.remove(&job_id);
                    }
                    if waiting.writes.values().all(|write| write.again_at.is_none()) {
                        waiting.problem = None;
                    }
                }
                Err(error) => {
                    if write.again_at.is_none() {
                        tracing::error!(%error, "a job's record could not be written; it is tried again");
                    }
                    waiting.problem = Some(format!("the record of jobs cannot be written: {error}"));
                    // What came meanwhile is newer.
                    let owed = Write { again_at: Some(Instant::now() + pause), ..write };
                    waiting.writes.entry(job_id).or_insert(owed);
                }
            }
            drop(waiting);
            self.changed.notify_all();
        }
    }

    /// The next write that is due, waiting for one; `None` at the end, when everything has been tried.
    fn take(&self) -> Option<(String, Write)> {
        let mut waiting = lock(&self.waiting);
        loop {
            let now = Instant::now();
            if let Some(job_id) = waiting.next_due(now).cloned() {
                let write = waiting.writes.remove(&job_id)?;
                waiting.at_work = true;
                // The job may be removed before this write is done; then the removal must follow it.
                waiting.on_disk.insert(job_id.clone());
                return Some((job_id, write));
            }
            if waiting.ending {
                return None;
            }
            let next = waiting.writes.values().filter_map(|write| write.again_at).min();
            waiting = match next {
                Some(at) => self.changed.wait_timeout(waiting, at - now).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{JobKind, UtcTime},
        jobs::{Jobs, Limits},
    };

    #[test]
    fn a_flood_of_short_jobs_leaves_only_the_known_ones_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let recorder = Recorder::spawn(store.clone(), HashSet::new());
        let mut jobs = Jobs::new(Limits { finished_kept: 3, ..Limits::default() });
        for number in 0..500 {
            let (id, at) = (format!("{number:04}"), UtcTime::from_unix_ns(number));
            recorder.save(&jobs.submit(id.clone(), JobKind::Capture, serde_json::Value::Null, None, at).unwrap());
            recorder.save(&jobs.cancel(&id, at).unwrap().1);
            jobs.prune().iter().for_each(|id| recorder.remove(id));
            assert!(lock(&recorder.shared.waiting).writes.len() <= 500);
        }
        recorder.flush(Duration::from_secs(10));
        let found = store.load_all();
        assert!(found.problems.is_empty() && recorder.problem().is_none());
        assert_eq!(found.jobs.iter().map(|job| job.job_id.as_str()).collect::<Vec<_>>(), ["0497", "0498", "0499"]);
    }
    /// The disk refuses one job's folder, while those of others can be written.
    #[test]
    fn what_could_not_be_written_is_owed_until_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let recorder = Recorder::trying_again_after(Duration::from_millis(20), store.clone(), HashSet::new());
        let mut jobs = Jobs::new(Limits::default());
        let mut submit = |id: &str| {
            let at = UtcTime::from_unix_ns(1);
            jobs.submit(id.to_owned(), JobKind::Capture, serde_json::Value::Null, None, at).unwrap()
        };
        let (refused, other) = (submit("a"), submit("b"));
        // Where the folder should be is a file.
        std::fs::write(store.job_dir("a"), "").unwrap();
        recorder.save(&refused);
        recorder.flush(Duration::from_secs(10));
        assert!(recorder.problem().is_some());
        recorder.save(&other);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !store.job_dir("b").join("job.json").exists() {
            assert!(Instant::now() < deadline, "one job's trouble holds up another");
            std::thread::sleep(Duration::from_millis(1));
        }
        recorder.flush(Duration::from_secs(10));
        assert!(recorder.problem().is_some(), "it is still owed");
        std::fs::remove_file(store.job_dir("a")).unwrap();
        // Nothing is asked for; it comes by itself.
        while recorder.problem().is_some() {
            assert!(Instant::now() < deadline, "it is never tried again");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(store.load_all().jobs, [refused, other]);
    }

    #[test]
    fn a_removal_that_failed_is_owed_and_a_newer_record_replaces_an_owed_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let recorder = Recorder::trying_again_after(Duration::from_secs(3600), store.clone(), HashSet::new());
        let mut jobs = Jobs::new(Limits::default());
        let at = UtcTime::from_unix_ns(1);
        let queued = jobs.submit("a".to_owned(), JobKind::Capture, serde_json::Value::Null, None, at).unwrap();
        let ended = jobs.cancel("a", at).unwrap().1;
        std::fs::write(store.job_dir("a"), "").unwrap();
        recorder.save(&queued);
        recorder.flush(Duration::from_secs(10));
        std::fs::remove_file(store.job_dir("a")).unwrap();
        recorder.save(&ended);
        recorder.flush(Duration::from_secs(10));
        assert_eq!((store.load_all().jobs, recorder.problem()), (vec![ended], None));
        // A folder that cannot be removed, because it is a file now.
        std::fs::remove_dir_all(store.job_dir("a")).unwrap();
        std::fs::write(store.job_dir("a"), "").unwrap();
        recorder.remove("a");
        recorder.flush(Duration::from_secs(10));
        assert!(recorder.problem().is_some());
        std::fs::remove_file(store.job_dir("a")).unwrap();
        std::fs::create_dir(store.job_dir("a")).unwrap();
        recorder.flush(Duration::from_secs(10));
        assert_eq!((store.job_dir("a").exists(), recorder.problem()), (false, None));
    }
}
