//! Writes records in a thread of its own, so that a slow disk holds up no reply.

use super::{Store, driver::lock};
use crate::api::Job;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

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
    /// `None` is a removal.
    writes: BTreeMap<String, Option<Job>>,
    on_disk: HashSet<String>,
    at_work: bool,
    ending: bool,
    problem: Option<String>,
}

impl Recorder {
    /// Starts the thread. `on_disk` names the jobs that the store holds already.
    pub(super) fn spawn(store: Store, on_disk: HashSet<String>) -> Self {
        let shared = Arc::new(Shared::default());
        lock(&shared.waiting).on_disk = on_disk;
        let writer = Arc::clone(&shared);
        let spawned = std::thread::Builder::new().name("job-record".to_owned()).spawn(move || writer.write_all(&store));
        if let Err(error) = spawned {
            lock(&shared.waiting).problem = Some(format!("jobs are not recorded: no thread for it: {error}"));
        }
        let alive = Arc::new(Alive(Arc::clone(&shared)));
        Self { shared, _alive: alive }
    }

    /// Has a job written as it stands.
    pub(super) fn save(&self, job: &Job) {
        lock(&self.shared.waiting).writes.insert(job.job_id.clone(), Some(job.clone()));
        self.shared.changed.notify_all();
    }

    /// Has a job removed.
    pub(super) fn remove(&self, job_id: &str) {
        {
            let mut waiting = lock(&self.shared.waiting);
            waiting.writes.remove(job_id);
            if waiting.on_disk.contains(job_id) {
                waiting.writes.insert(job_id.to_owned(), None);
            }
        }
        self.shared.changed.notify_all();
    }

    /// Waits until all is written, or until `patience` is over.
    pub(super) fn flush(&self, patience: Duration) {
        let waiting = lock(&self.shared.waiting);
        let busy = |waiting: &mut Waiting| waiting.at_work || !waiting.writes.is_empty();
        let _ = self.shared.changed.wait_timeout_while(waiting, patience, busy);
    }

    /// What the disk refused, if the latest write failed.
    pub(super) fn problem(&self) -> Option<String> {
        lock(&self.shared.waiting).problem.clone()
    }
}

impl Shared {
    fn write_all(&self, store: &Store) {
        while let Some((job_id, job)) = self.take() {
            let result = match &job {
                Some(job) => store.save(job),
                None => store.remove(&job_id),
            };
            let mut waiting = lock(&self.waiting);
            waiting.at_work = false;
            match &result {
                Ok(()) if job.is_none() => drop(waiting.on_disk.remove(&job_id)),
                // A write that failed may have made the folder, so the job's removal is still owed.
                _ => drop(waiting.on_disk.insert(job_id)),
            }
            if let Err(error) = &result {
                tracing::error!(%error, "a job's record could not be written");
            }
            waiting.problem = result.err().map(|error| format!("the record of jobs cannot be written: {error}"));
            drop(waiting);
            self.changed.notify_all();
        }
    }

    fn take(&self) -> Option<(String, Option<Job>)> {
        let waits = |waiting: &mut Waiting| waiting.writes.is_empty() && !waiting.ending;
        let mut waiting: MutexGuard<'_, Waiting> =
            self.changed.wait_while(lock(&self.waiting), waits).unwrap_or_else(std::sync::PoisonError::into_inner);
        let next = waiting.writes.pop_first()?;
        waiting.at_work = true;
        // The job may be removed before this write is done; then the removal must follow it.
        waiting.on_disk.insert(next.0.clone());
        Some(next)
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
        let (kept, problems) = store.load_all();
        assert!(problems.is_empty() && recorder.problem().is_none());
        assert_eq!(kept.iter().map(|job| job.job_id.as_str()).collect::<Vec<_>>(), ["0497", "0498", "0499"]);
    }
}
