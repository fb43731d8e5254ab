//! The states of all jobs, as a plain value: typed refusals, no clock, no I/O, no tokio.

use crate::api::{ApiError, ErrorCode, Job, JobKind, JobQuery, JobState, JobSummary, UtcTime};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};
use uuid::Uuid;

/// How much is kept and accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Jobs of one kind that may wait for their turn.
    pub queued_per_kind: usize,
    /// Finished jobs of one kind that are remembered.
    pub finished_kept: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queued_per_kind: 8, finished_kept: 100 }
    }
}

/// Why a transition was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The queue of this kind is full.
    #[error("{queued} jobs of this kind are already waiting, which is the limit; cancel one or try again later")]
    Busy {
        /// How many wait.
        queued: usize,
    },
    /// There is no such job.
    #[error("there is no job `{0}`; get the list of jobs to see which there are")]
    NotFound(String),
    /// The job has ended, so nothing can be changed.
    #[error("the job has already ended ({state:?}); nothing was changed")]
    Ended {
        /// How it ended.
        state: JobState,
    },
    /// The job has not begun, or is not at work any more.
    #[error("the job is not running ({state:?})")]
    NotRunning {
        /// Where it stands.
        state: JobState,
    },
    /// The service ends.
    #[error("netdiag is stopping; ask again when it has started anew")]
    Stopping,
    /// A job of this id exists.
    #[error("a job `{0}` exists already")]
    Duplicate(String),
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Busy { .. } => ErrorCode::Busy,
            Refusal::NotFound(_) => ErrorCode::NotFound,
            Refusal::Ended { .. } | Refusal::NotRunning { .. } => ErrorCode::BadRequest,
            Refusal::Stopping => ErrorCode::Unavailable,
            Refusal::Duplicate(_) => ErrorCode::Internal,
        };
        Self::new(code, refusal.to_string())
    }
}

/// What a cancel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// The job was still waiting: it has ended.
    AtOnce,
    /// The job is at work: it has been asked to stop and ends soon.
    Asked,
}

/// All jobs that are known, by id. Ids sort in the order of their creation, whatever the clock did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Jobs {
    jobs: BTreeMap<String, Job>,
    limits: Limits,
    /// The greatest id that was ever known; the next one is greater.
    newest: Option<Uuid>,
    /// The order in which jobs have ended, because clocks are set. After a restart that is the order of their ids.
    ended: BTreeMap<String, u64>,
    endings: u64,
}

impl Jobs {
    /// No jobs yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Makes an id greater than every one known out of a fresh one, which is greater already unless the clock was set back.
    pub fn id_after_all(&self, fresh: Uuid) -> Uuid {
        match self.newest {
            Some(newest) if fresh <= newest => following(newest, fresh),
            _ => fresh,
        }
    }

    /// Takes up what a former run of the service left. Jobs that had not ended become `interrupted`; they are returned.
    pub fn restore(&mut self, jobs: impl IntoIterator<Item = Job>, now: UtcTime) -> Vec<Job> {
        let mut interrupted = Vec::new();
        for mut job in jobs {
            if !job.state.is_final() {
                end(&mut job, JobState::Interrupted, now);
                job.error = Some("the service ended before the job did".to_owned());
                interrupted.push(job.clone());
            }
            self.note_id(&job.job_id);
            self.jobs.insert(job.job_id.clone(), job);
        }
        let ids: Vec<String> = self.jobs.keys().cloned().collect();
        ids.iter().for_each(|job_id| self.note_end(job_id));
        interrupted
    }

    /// Which of the jobs whose records are damaged would be forgotten by now. Their kind is not known, so the oldest go as soon as
    /// there are as many newer jobs as are remembered of one kind.
    pub fn outlived(&self, damaged: &[String]) -> Vec<String> {
        let newer = |id: &String| {
            let known = self.jobs.range::<String, _>((Bound::Excluded(id), Bound::Unbounded)).count();
            known + damaged.iter().filter(|other| *other > id).count()
        };
        damaged.iter().filter(|id| newer(id) >= self.limits.finished_kept).cloned().collect()
    }

    /// Accepts a job as `queued`.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when the queue of its kind is full, [`Refusal::Duplicate`] when the id is taken.
    pub fn submit(
        &mut self,
        job_id: String,
        kind: JobKind,
        request: Value,
        requested_by: Option<String>,
        now: UtcTime,
    ) -> Result<Job, Refusal> {
        let queued = self.in_state(kind, JobState::Queued).count();
        if queued >= self.limits.queued_per_kind {
            return Err(Refusal::Busy { queued });
        }
        if self.jobs.contains_key(&job_id) {
            return Err(Refusal::Duplicate(job_id));
        }
        let job = Job {
            job_id: job_id.clone(),
            kind,
            state: JobState::Queued,
            generation: 1,
            progress: 0.0,
            phase: "waiting".to_owned(),
            created_at: now,
            started_at: None,
            finished_at: None,
            request,
            requested_by,
            error: None,
            summary: None,
        };
        self.note_id(&job_id);
        self.jobs.insert(job_id, job.clone());
        Ok(job)
    }

    /// Sets the next job to `running`, if one waits whose kind has none at work.
    pub fn next(&mut self, now: UtcTime) -> Option<Job> {
        let waits = |job: &&Job| job.state == JobState::Queued && self.in_state(job.kind, JobState::Running).next().is_none();
        let job_id = self.jobs.values().find(waits)?.job_id.clone();
        let job = self.jobs.get_mut(&job_id)?;
        job.state = JobState::Running;
        job.started_at = Some(now);
        job.phase = "starting".to_owned();
        job.generation += 1;
        Some(job.clone())
    }

    /// Notes how far a running job is. Progress never goes back.
    ///
    /// # Errors
    /// When there is no such job, or it is not running.
    pub fn progress(&mut self, job_id: &str, progress: f64, phase: &str) -> Result<Job, Refusal> {
        let job = self.job_mut(job_id)?;
        if job.state != JobState::Running {
            return Err(Refusal::NotRunning { state: job.state });
        }
        if progress.is_finite() {
            job.progress = progress.clamp(job.progress, 1.0);
        }
        if job.phase != phase {
            phase.clone_into(&mut job.phase);
        }
        job.generation += 1;
        Ok(job.clone())
    }

    /// Ends a running job.
    ///
    /// # Errors
    /// When there is no such job, or it is not running.
    pub fn finish(
        &mut self,
        job_id: &str,
        state: JobState,
        error: Option<String>,
        summary: Option<JobSummary>,
        now: UtcTime,
    ) -> Result<Job, Refusal> {
        let job = self.job_mut(job_id)?;
        if job.state != JobState::Running {
            return Err(Refusal::NotRunning { state: job.state });
        }
        end(job, if state.is_final() { state } else { JobState::Failed }, now);
        job.error = error;
        job.summary = summary;
        let job = job.clone();
        self.note_end(job_id);
        Ok(job)
    }

    /// Cancels a job: one that waits ends at once, one at work has to be asked to stop.
    ///
    /// # Errors
    /// When there is no such job, or it has ended.
    pub fn cancel(&mut self, job_id: &str, now: UtcTime) -> Result<(Cancelled, Job), Refusal> {
        let job = self.job_mut(job_id)?;
        match job.state {
            JobState::Queued => {
                end(job, JobState::Cancelled, now);
                let job = job.clone();
                self.note_end(job_id);
                Ok((Cancelled::AtOnce, job))
            }
            JobState::Running => {
                "cancelling".clone_into(&mut job.phase);
                job.generation += 1;
                Ok((Cancelled::Asked, job.clone()))
            }
            state => Err(Refusal::Ended { state }),
        }
    }

    /// Ends every job that still waits as `interrupted`, because the service ends.
    pub fn interrupt_queued(&mut self, now: UtcTime) -> Vec<Job> {
        let mut interrupted = Vec::new();
        for job in self.jobs.values_mut().filter(|job| job.state == JobState::Queued) {
            end(job, JobState::Interrupted, now);
            job.error = Some("the service ended before the job began".to_owned());
            interrupted.push(job.clone());
        }
        interrupted.iter().for_each(|job| self.note_end(&job.job_id));
        interrupted
    }

    /// Forgets the oldest finished jobs of each kind beyond the limit and says which: a hundred captures push out no test.
    pub fn prune(&mut self) -> Vec<String> {
        let mut kept: HashMap<JobKind, usize> = HashMap::new();
        let mut removed: Vec<String> = Vec::new();
        for job in self.jobs.values().rev().filter(|job| job.state.is_final()) {
            let kept = kept.entry(job.kind).or_default();
            *kept += 1;
            if *kept > self.limits.finished_kept {
                removed.push(job.job_id.clone());
            }
        }
        removed.reverse();
        for job_id in &removed {
            self.jobs.remove(job_id);
            self.ended.remove(job_id);
        }
        removed
    }

    /// One job.
    pub fn get(&self, job_id: &str) -> Option<&Job> {
        self.jobs.get(job_id)
    }

    /// The jobs that a query asks for, newest first.
    pub fn list(&self, query: &JobQuery) -> Vec<Job> {
        self.jobs
            .values()
            .rev()
            .filter(|job| query.kind.is_none_or(|kind| job.kind == kind))
            .filter(|job| query.state.is_none_or(|state| job.state == state))
            .take(query.limit as usize)
            .cloned()
            .collect()
    }

    /// The job of a kind that is at work.
    pub fn running(&self, kind: JobKind) -> Option<&Job> {
        self.in_state(kind, JobState::Running).next()
    }

    /// How many jobs are queued or running.
    pub fn unfinished(&self) -> usize {
        self.jobs.values().filter(|job| !job.state.is_final()).count()
    }

    /// The newest connectivity test that judged endpoints; one that was cancelled before it began has judged none.
    pub fn last_judged(&self) -> Option<&Job> {
        let judged = |job: &&Job| job.summary.as_ref().is_some_and(|summary| summary.endpoints.is_some());
        self.jobs.values().filter(judged).max_by_key(|job| self.ended.get(&job.job_id))
    }

    /// The newest job of a kind that has ended, whether on its own or not.
    pub fn last_finished(&self, kind: JobKind) -> Option<&Job> {
        let ended = |job: &&Job| job.kind == kind && job.state.is_final();
        self.jobs.values().filter(ended).max_by_key(|job| self.ended.get(&job.job_id))
    }

    fn in_state(&self, kind: JobKind, state: JobState) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(move |job| job.kind == kind && job.state == state)
    }

    fn note_id(&mut self, job_id: &str) {
        self.newest = self.newest.max(Uuid::try_parse(job_id).ok());
    }

    fn note_end(&mut self, job_id: &str) {
        self.endings += 1;
        self.ended.insert(job_id.to_owned(), self.endings);
    }

    fn job_mut(&mut self, job_id: &str) -> Result<&mut Job, Refusal> {
        self.jobs.get_mut(job_id).ok_or_else(|| Refusal::NotFound(job_id.to_owned()))
    }
}

/// An id a millisecond after `newest`, with the random part of `fresh`.
fn following(newest: Uuid, fresh: Uuid) -> Uuid {
    const TIME_MAX: u64 = (1 << 48) - 1;
    let time_ms = u64::try_from(newest.as_u128() >> 80).unwrap_or(TIME_MAX);
    let mut random = [0; 10];
    random.copy_from_slice(&fresh.as_bytes()[6..]);
    uuid::Builder::from_unix_timestamp_millis((time_ms + 1).min(TIME_MAX), &random).into_uuid()
}

fn end(job: &mut Job, state: JobState, now: UtcTime) {
    job.state = state;
    job.finished_at = Some(now);
    // The record that a job was read back from may say anything.
    job.generation = job.generation.saturating_add(1);
    if state == JobState::Succeeded {
        job.progress = 1.0;
    }
    job.phase = match state {
        JobState::Cancelled => "cancelled",
        JobState::Interrupted => "interrupted",
        JobState::Failed => "failed",
        _ => "done",
    }
    .to_owned();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> UtcTime {
        UtcTime::from_unix_ns(second * 1_000_000_000)
    }

    fn submit(jobs: &mut Jobs, id: &str, kind: JobKind) -> Result<Job, Refusal> {
        jobs.submit(id.to_owned(), kind, Value::Null, None, at(0))
    }

    #[test]
    fn a_record_that_says_anything_is_taken_up() {
        let mut before = Jobs::default();
        let job = submit(&mut before, "a", JobKind::Capture).unwrap();
        let mut jobs = Jobs::default();
        let interrupted = jobs.restore([Job { generation: u64::MAX, ..job }], at(1));
        assert_eq!((interrupted.len(), jobs.get("a").unwrap().state), (1, JobState::Interrupted));
    }

    #[test]
    fn one_of_a_kind_runs_and_the_others_wait() {
        let mut jobs = Jobs::new(Limits::default());
        submit(&mut jobs, "a", JobKind::Connectivity).unwrap();
        submit(&mut jobs, "b", JobKind::Connectivity).unwrap();
        submit(&mut jobs, "c", JobKind::Capture).unwrap();
        assert_eq!(jobs.next(at(1)).unwrap().job_id, "a");
        assert_eq!(jobs.next(at(1)).unwrap().job_id, "c", "another kind runs beside it");
        assert_eq!(jobs.next(at(1)), None);
        jobs.finish("a", JobState::Succeeded, None, None, at(2)).unwrap();
        assert_eq!(jobs.next(at(2)).unwrap().job_id, "b");
    }

    #[test]
    fn a_full_queue_refuses_and_a_cancel_makes_room() {
        let mut jobs = Jobs::new(Limits { queued_per_kind: 2, ..Limits::default() });
        submit(&mut jobs, "a", JobKind::Connectivity).unwrap();
        submit(&mut jobs, "b", JobKind::Connectivity).unwrap();
        assert_eq!(submit(&mut jobs, "c", JobKind::Connectivity), Err(Refusal::Busy { queued: 2 }));
        submit(&mut jobs, "d", JobKind::Capture).unwrap();
        assert_eq!(jobs.cancel("a", at(1)).unwrap().0, Cancelled::AtOnce);
        submit(&mut jobs, "c", JobKind::Connectivity).unwrap();
    }

    #[test]
    fn what_has_ended_stays_as_it_is() {
        let mut jobs = Jobs::new(Limits::default());
        submit(&mut jobs, "a", JobKind::Connectivity).unwrap();
        assert_eq!(jobs.progress("a", 0.5, "x"), Err(Refusal::NotRunning { state: JobState::Queued }));
        jobs.next(at(1));
        assert_eq!(jobs.cancel("a", at(2)).unwrap().0, Cancelled::Asked);
        assert_eq!(jobs.get("a").unwrap().state, JobState::Running, "it ends when its work has stopped");
        jobs.finish("a", JobState::Cancelled, None, None, at(3)).unwrap();
        assert_eq!(jobs.cancel("a", at(4)), Err(Refusal::Ended { state: JobState::Cancelled }));
        assert!(jobs.finish("a", JobState::Succeeded, None, None, at(4)).is_err());
        assert_eq!(jobs.cancel("zz", at(4)), Err(Refusal::NotFound("zz".to_owned())));
    }

    #[test]
    fn a_restart_marks_what_had_not_ended() {
        let mut before = Jobs::new(Limits::default());
        for id in ["a", "b", "c"] {
            submit(&mut before, id, JobKind::Connectivity).unwrap();
        }
        before.next(at(1));
        before.finish("a", JobState::Succeeded, None, None, at(2)).unwrap();
        before.next(at(2));
        let mut after = Jobs::new(Limits::default());
        let interrupted = after.restore(before.list(&JobQuery::default()), at(9));
        assert_eq!(interrupted.len(), 2);
        assert_eq!(after.get("a").unwrap().state, JobState::Succeeded);
        assert_eq!(after.get("b").unwrap().state, JobState::Interrupted);
        assert_eq!(after.get("c").unwrap().finished_at, Some(at(9)));
        assert_eq!(after.unfinished(), 0);
    }

    #[test]
    fn only_the_oldest_finished_jobs_are_forgotten() {
        let mut jobs = Jobs::new(Limits { finished_kept: 1, ..Limits::default() });
        for id in ["a", "b", "c", "d"] {
            submit(&mut jobs, id, JobKind::Connectivity).unwrap();
        }
        for id in ["a", "b", "c"] {
            assert_eq!(jobs.next(at(1)).unwrap().job_id, id);
            jobs.finish(id, JobState::Failed, None, None, at(2)).unwrap();
        }
        assert_eq!(jobs.prune(), ["a", "b"]);
        assert_eq!(jobs.list(&JobQuery::default()).iter().map(|job| job.job_id.as_str()).collect::<Vec<_>>(), ["d", "c"]);
    }

    #[test]
    fn a_hundred_captures_push_out_no_test() {
        let mut jobs = Jobs::new(Limits { finished_kept: 2, ..Limits::default() });
        let mut finish = |id: &str, kind| {
            submit(&mut jobs, id, kind).unwrap();
            jobs.next(at(1)).unwrap();
            jobs.finish(id, JobState::Succeeded, None, None, at(2)).unwrap();
            jobs.prune()
        };
        assert!(finish("000", JobKind::Connectivity).is_empty());
        let forgotten: Vec<String> = (1..=100).flat_map(|n| finish(&format!("{n:03}"), JobKind::Capture)).collect();
        assert_eq!((forgotten.len(), forgotten[0].as_str()), (98, "001"));
        assert!(jobs.last_finished(JobKind::Connectivity).is_some());
    }

    #[test]
    fn ids_grow_and_the_last_job_is_the_last_whatever_the_clock_does() {
        let fresh = |ms| uuid::Builder::from_unix_timestamp_millis(ms, &[7; 10]).into_uuid();
        let mut jobs = Jobs::new(Limits { finished_kept: 2, ..Limits::default() });
        let mut ids = Vec::new();
        // In the middle of it the clock is set back by years, and the service is started anew.
        for (ms, second) in [(1_800_000_000_000, 900), (1_800_000_000_001, 901), (5_000, 5), (5_000, 6), (6_000, 7)] {
            let id = jobs.id_after_all(fresh(ms)).to_string();
            submit(&mut jobs, &id, JobKind::Connectivity).unwrap();
            jobs.next(at(second)).unwrap();
            jobs.finish(&id, JobState::Succeeded, None, None, at(second)).unwrap();
            assert_eq!(jobs.last_finished(JobKind::Connectivity).unwrap().job_id, id);
            jobs.prune();
            let mut restarted = Jobs::new(jobs.limits);
            restarted.restore(jobs.jobs.values().cloned(), at(second));
            assert_eq!(restarted.last_finished(JobKind::Connectivity).unwrap().job_id, id);
            jobs = restarted;
            ids.push(id);
        }
        assert!(ids.is_sorted() && ids.windows(2).all(|two| two[0] != two[1]), "{ids:?}");
        assert_eq!(jobs.jobs.keys().collect::<Vec<_>>(), [&ids[3], &ids[4]], "the newest are kept");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Submit(bool),
        Next,
        Progress(usize, f64),
        Finish(usize),
        Cancel(usize),
        Prune,
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            any::<bool>().prop_map(Step::Submit),
            Just(Step::Next),
            (0..20_usize, any::<f64>()).prop_map(|(job, progress)| Step::Progress(job, progress)),
            (0..20_usize).prop_map(Step::Finish),
            (0..20_usize).prop_map(Step::Cancel),
            Just(Step::Prune),
            Just(Step::Restart),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// Whatever happens: at most one of a kind runs, the queue stays within its bound, generations only grow, final states stay,
        /// and progress never goes back.
        #[test]
        fn random_sequences_keep_the_promises(steps in steps()) {
            let limits = Limits { queued_per_kind: 3, finished_kept: 5 };
            let mut jobs = Jobs::new(limits);
            let mut made = 0;
            let name = |number: usize| format!("{number:04}");
            for (second, step) in steps.into_iter().enumerate() {
                let now = at(second as i64);
                let before = jobs.clone();
                match step {
                    Step::Submit(capture) => {
                        let kind = if capture { JobKind::Capture } else { JobKind::Connectivity };
                        if submit(&mut jobs, &name(made), kind).is_ok() { made += 1; }
                    }
                    Step::Next => { jobs.next(now); }
                    Step::Progress(job, progress) => { let _ = jobs.progress(&name(job), progress, "at work"); }
                    Step::Finish(job) => { let _ = jobs.finish(&name(job), JobState::Succeeded, None, None, now); }
                    Step::Cancel(job) => { let _ = jobs.cancel(&name(job), now); }
                    Step::Prune => { jobs.prune(); }
                    Step::Restart => {
                        let mut restarted = Jobs::new(limits);
                        restarted.restore(jobs.jobs.values().cloned(), now);
                        jobs = restarted;
                    }
                }
                for kind in [JobKind::Connectivity, JobKind::Capture] {
                    prop_assert!(jobs.in_state(kind, JobState::Running).count() <= 1);
                    prop_assert!(jobs.in_state(kind, JobState::Queued).count() <= 3);
                }
                for (id, old) in &before.jobs {
                    let Some(new) = jobs.get(id) else {
                        prop_assert!(old.state.is_final(), "only finished jobs are forgotten");
                        continue;
                    };
                    prop_assert!(new.generation >= old.generation);
                    prop_assert!(new.generation > old.generation || new == old, "a change without a new generation");
                    prop_assert!(new.progress >= old.progress && (0.0..=1.0).contains(&new.progress));
                    if old.state.is_final() { prop_assert_eq!(new, old); }
                }
            }
        }
    }
}
