//! The filing thread: judges each snapshot as it closes, files it, and forgets what need not be kept.

mod mending;

use super::{
    Command, floor, lock, recording,
    supervision::{Ended, said},
};
use crate::{
    analysis::Analysis,
    api::{
        AnalysisReport, AnalysisVerdict, CaptureReport, Event, Finding, MonitorSettings, MonitorState, Snapshot, SnapshotState,
        UtcTime,
    },
    archive::{Handover, Leftover, Limits, Store, StoreError, comfort_bytes, needed_bytes, to_remove},
    capture::ClosedWindow,
    monitor::{Earlier, FindingPattern, Keep, NeighboursAfter, Recurrence, neighbours_before, suspicious},
    service::{free_bytes, replies::Core, results::body_of},
};
use mending::{BROKEN_OFF, unfinished};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

/// So many closed snapshots may wait to be filed; then recording waits with closing the next.
const MAX_WAITING: usize = 16;
/// How often it is looked whether something is to be forgotten.
const TIDY_PERIOD: Duration = Duration::from_secs(1);
/// Severities of the alarm log.
const STATUS: u8 = 2;
pub(super) const ALARM: u8 = 3;
/// Findings that a publication holds at most; the snapshot's own file has all.
const MAX_PUBLISHED: usize = 50;

/// A snapshot that was closed.
pub(super) struct Closed {
    pub snapshot: Snapshot,
    /// Its recording; `None` when the capture broke off.
    pub window: Option<ClosedWindow>,
    pub sink: Arc<Mutex<Analysis>>,
}

/// What is to be done.
pub(super) enum Filing {
    Closed(Box<Closed>),
    Pin(String, bool),
    Delete(String),
    /// Write down how the monitor is set.
    Remember,
}

struct Clerk {
    core: Weak<Core>,
    store: Store,
    recurrence: Recurrence,
    neighbours: NeighboursAfter,
    started: Instant,
    tidied: Option<Instant>,
    /// Recordings that were broken off, by an earlier netdiag.
    broken_off: Vec<Leftover>,
    /// Snapshots that could not be filed; their recordings lie where they were recorded.
    unfiled: BTreeSet<String>,
    refiled: Instant,
}

/// Runs the monitor until it is told to stop, or cannot: this thread files, and another one, that it starts, records.
pub(super) fn run(core: &Weak<Core>, commands: &Mutex<Receiver<Command>>) -> Ended {
    let Some(strong) = core.upgrade() else { return Ended::Stopped };
    let shipped = Weak::clone(core);
    let handover: Handover = Arc::new(move |snapshot_id, folder| {
        if let Some(core) = shipped.upgrade() {
            core.monitor.shipping.take(&core, snapshot_id, folder);
        }
    });
    let store = match Store::open(&strong.settings.state_dir.join("monitor"), handover) {
        Ok(store) => store,
        Err(error) => {
            strong.monitor.shipping.begin();
            let mut view = lock(&strong.monitor.view);
            view.state = MonitorState::Unavailable;
            view.problem(error.to_string());
            return Ended::NotBegun;
        }
    };
    let _ = strong.monitor.store.set(store.clone());
    let (listed, problems) = store.list();
    let mut view = lock(&strong.monitor.view);
    listed.into_iter().for_each(|snapshot| view.put(snapshot));
    problems.into_iter().for_each(|problem| view.problem(problem));
    drop(view);
    strong.monitor.shipping.begin();
    // What a killed netdiag left; looked for before anything new is opened, and its names are taken.
    let leftovers = store.leftovers();
    for leftover in &leftovers {
        if lock(&strong.monitor.view).snapshot(&leftover.snapshot_id).is_none() {
            lock(&strong.monitor.view).put(unfinished(&leftover.snapshot_id, BROKEN_OFF));
        }
    }
    let (recording, pulse) = (strong.monitor.recording.clone(), strong.monitor.filing.clone());
    drop(strong);
    let (filings, received) = sync_channel(MAX_WAITING);
    let (recorded, recorded_store) = (Weak::clone(core), store.clone());
    let is_alone = AtomicBool::new(false);
    thread::scope(|scope| {
        // It is gone before the other thread is waited for, so that nothing is handed over to nobody.
        let (received, is_alone) = (received, &is_alone);
        let record = move || {
            let commands = lock(commands);
            let between = recording::Between { commands: &commands, filings, is_alone };
            recording::run(recorded, recorded_store, between, &recording)
        };
        let recorder = match thread::Builder::new().name("netdiag-recorder".into()).spawn_scoped(scope, record) {
            Ok(recorder) => recorder,
            Err(error) => return Ended::BrokeOff(format!("the recording cannot be started: {error}")),
        };
        let _leaves_it_alone = LeavesAlone(is_alone);
        let mut clerk = Clerk {
            core: Weak::clone(core),
            store,
            recurrence: Recurrence::default(),
            neighbours: NeighboursAfter::default(),
            started: Instant::now(),
            tidied: None,
            broken_off: leftovers,
            unfiled: BTreeSet::new(),
            refiled: Instant::now(),
        };
        loop {
            let turn = pulse.turn();
            clerk.mend_broken_off();
            clerk.tidy();
            clerk.file_again();
            drop(turn);
            match received.recv_timeout(TIDY_PERIOD) {
                Ok(filing) => {
                    let _turn = pulse.turn();
                    clerk.take(filing);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        clerk.mend_all();
        match recorder.join() {
            Ok(_) => Ended::Stopped,
            Err(panic) => Ended::BrokeOff(format!("the recording broke off: {}", said(&*panic))),
        }
    })
}

/// However the filing thread ends, the recording thread hears of it.
struct LeavesAlone<'a>(&'a AtomicBool);

impl Drop for LeavesAlone<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Something is wrong, and somebody should know: once for as long as it lasts.
pub(super) fn alarm(core: &Core, message: String) {
    if lock(&core.monitor.view).new_problem(&message) {
        core.post(&Event { source: core.settings.process_name.clone(), message, severity: ALARM });
    }
}

impl Clerk {
    fn take(&mut self, filing: Filing) {
        let Some(core) = self.core.upgrade() else { return };
        match filing {
            Filing::Closed(closed) => self.guarded(&core, |clerk| clerk.closed(&core, *closed)),
            Filing::Pin(snapshot_id, pinned) => {
                let pinning = self.store.set_pinned(&snapshot_id, pinned);
                let mut view = lock(&core.monitor.view);
                match (pinning, view.snapshot(&snapshot_id)) {
                    (Ok(()), Some(snapshot)) => {
                        let snapshot = Snapshot { pinned, ..snapshot };
                        view.put(snapshot.clone());
                        drop(view);
                        publish(&core, &snapshot);
                    }
                    // It is pinned as it is filed.
                    (Err(_), Some(snapshot)) if snapshot.state == SnapshotState::Open => {}
                    (Err(error), _) => view.problem(error.to_string()),
                    (Ok(()), None) => {}
                }
            }
            Filing::Delete(snapshot_id) => self.forget(&core, &snapshot_id, "it was asked for"),
            Filing::Remember => core.monitor.remember(&core.settings.state_dir),
        }
    }

    /// A panic over one snapshot must not end the filing of all others; its recording stays where it is.
    fn guarded(&mut self, core: &Core, work: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            let said = said(&*panic);
            alarm(core, format!("the filing of a snapshot broke off; its recording is still there; please report this: {said}"));
        }
    }

    fn closed(&mut self, core: &Core, closed: Closed) {
        let Closed { mut snapshot, window, sink } = closed;
        // Without a word from the capture, what is on disk counts.
        if window.is_none()
            && let Some(leftover) = self.store.leftovers().into_iter().find(|left| left.snapshot_id == snapshot.snapshot_id)
        {
            drop(sink);
            return self.mend(core, &leftover, "the capture broke off before the snapshot was closed");
        }
        let capture = window.map(|window| window.finish(true));
        let mut report = {
            let mut analysis = lock(&sink);
            analysis.set_dropped(capture.as_ref().map_or(0, |capture| capture.kernel_dropped));
            analysis.finish();
            analysis.report()
        };
        match capture {
            Some(capture) => recorded(&mut snapshot, capture),
            None => {
                snapshot.file = None;
                snapshot.problem = Some("the capture broke off before the snapshot was closed".to_owned());
            }
        }
        self.file(core, snapshot, &mut report);
    }

    /// Judges a snapshot and files it.
    fn file(&mut self, core: &Core, mut snapshot: Snapshot, report: &mut AnalysisReport) {
        let view = lock(&core.monitor.view);
        let settings = view.settings().clone();
        snapshot.pinned |= view.snapshot(&snapshot.snapshot_id).is_some_and(|known| known.pinned);
        drop(view);
        let ignore: Vec<FindingPattern> = settings
            .ignore
            .iter()
            .map(|ignored| FindingPattern { code: ignored.code.clone(), endpoint_id: ignored.endpoint_id.clone() })
            .collect();
        let matters = suspicious(&report.findings, settings.severity, &ignore);
        let gone_after = settings.snapshot_s.0 * 2 + Duration::from_secs(60);
        let repeat = Duration::from_secs(settings.repeat_s);
        let continuous = snapshot.trigger.is_none();
        let mut recurrence = self.recurrence.clone();
        let keep = match matters.is_empty() {
            true => None,
            false => Some(recurrence.take(&matters, self.started.elapsed(), repeat, gone_after)),
        };
        snapshot.verdict = Some(if keep.is_some() { AnalysisVerdict::Suspect } else { AnalysisVerdict::Clean });
        snapshot.text = text(&matters, keep, report);
        let for_itself = !continuous || matches!(keep, Some(Keep::New | Keep::Again));
        snapshot.neighbour_of = if for_itself { None } else { self.neighbours.take() };
        let archive = for_itself || snapshot.neighbour_of.is_some();
        snapshot.state = if archive { SnapshotState::Archived } else { SnapshotState::Temporary };
        snapshot.findings.clone_from(&report.findings);
        report.file.clone_from(&snapshot.file);
        let context = archive.then(|| context(core, &settings));
        let filed = match self.store.file(snapshot.clone(), report, context.as_ref(), self.room(&settings)) {
            Ok(filed) => filed,
            Err(error) => return self.could_not(core, snapshot, &error),
        };
        self.unfiled.remove(&filed.snapshot_id);
        // What was triggered is archived for the trigger's sake; it says nothing of the continuous ones.
        if continuous {
            self.recurrence = recurrence;
        }
        let mut view = lock(&core.monitor.view);
        view.judged(&filed);
        view.put(filed.clone());
        drop(view);
        publish(core, &filed);
        core.publish_monitor();
        if for_itself && keep != Some(Keep::Again) {
            let why = filed.trigger.as_ref().map_or_else(String::new, |trigger| format!(" (saved because: {trigger})"));
            let what = if keep.is_some() { "is suspect" } else { "was saved" };
            let message = format!("snapshot {} {what}{why}: {}", filed.snapshot_id, filed.text);
            core.post(&Event { source: core.settings.process_name.clone(), message, severity: STATUS });
        }
        if continuous && for_itself {
            self.archive_neighbours_before(core, &filed, &settings);
            self.neighbours.archived(&filed.snapshot_id, settings.neighbours);
        }
        self.tidied = None;
    }

    /// The bytes that may be written beside what is recorded.
    fn room(&self, settings: &MonitorSettings) -> u64 {
        free_bytes(self.store.root()).unwrap_or(0).saturating_sub(floor(self.store.root(), settings))
    }

    fn archive_neighbours_before(&self, core: &Core, suspect: &Snapshot, settings: &MonitorSettings) {
        let earlier = lock(&core.monitor.view).continuous_before(&suspect.snapshot_id, settings.neighbours);
        let places: Vec<Earlier> = earlier
            .iter()
            .map(|earlier| Earlier {
                snapshot_id: earlier.snapshot_id.clone(),
                closed_unix_ns: earlier.closed_at.map_or(i64::MIN, UtcTime::unix_ns),
                is_temporary: earlier.state == SnapshotState::Temporary,
            })
            .collect();
        let chosen = neighbours_before(&places, suspect.opened_at.unix_ns(), settings.neighbours, settings.snapshot_s.0);
        for earlier in earlier.into_iter().filter(|earlier| chosen.contains(&earlier.snapshot_id)) {
            let snapshot = Snapshot { neighbour_of: Some(suspect.snapshot_id.clone()), ..earlier };
            match self.store.archive(snapshot, &context(core, settings), self.room(settings)) {
                Ok(archived) => {
                    lock(&core.monitor.view).put(archived.clone());
                    publish(core, &archived);
                }
                Err(error) => lock(&core.monitor.view).problem(format!("a neighbour could not be archived: {error}")),
            }
        }
    }

    /// Forgets what need not be kept.
    fn tidy(&mut self) {
        if self.tidied.is_some_and(|tidied| tidied.elapsed() < TIDY_PERIOD) {
            return;
        }
        self.tidied = Some(Instant::now());
        let Some(core) = self.core.upgrade() else { return };
        let view = lock(&core.monitor.view);
        let (settings, mut stored, is_full) = (view.settings().clone(), view.stored(), view.is_full);
        drop(view);
        stored.iter_mut().for_each(|stored| stored.held = core.monitor.shipping.holds(&stored.snapshot_id));
        let limits = Limits {
            clean_retention: Duration::from_secs(settings.clean_retention_s),
            archive_max_age: Duration::from_secs(settings.archive_max_age_s),
            archive_max_bytes: settings.archive_max_bytes,
            min_free_bytes: comfort_bytes(floor(self.store.root(), &settings)),
        };
        let free = free_bytes(self.store.root()).unwrap_or(u64::MAX);
        let now = UtcTime::from(SystemTime::now()).unix_ns();
        let removals = to_remove(&stored, now, free, &limits);
        for removal in &removals {
            self.forget(&core, &removal.snapshot_id, &removal.why.to_string());
        }
        // What waits for a sink goes last, when recording could not go on otherwise; and what the archive kept of it next.
        let needed = needed_bytes(floor(self.store.root(), &settings), is_full);
        if removals.is_empty() && core.monitor.shipping.make_room(&core, &stored, free, needed) {
            core.publish_monitor();
            self.tidied = None;
        }
    }

    fn forget(&self, core: &Core, snapshot_id: &str, why: &str) {
        let removed = self.store.remove(snapshot_id);
        let mut view = lock(&core.monitor.view);
        match removed {
            // One that is not there any more is gone as well.
            Ok(()) | Err(StoreError::NotFound(_)) => {
                tracing::info!(snapshot_id, why, "a snapshot is deleted");
                let snapshot = view.snapshot(snapshot_id);
                view.remove(snapshot_id);
                drop(view);
                if let Some(snapshot) = snapshot {
                    let text = format!("deleted: {why}");
                    publish(core, &Snapshot { state: SnapshotState::Deleted, text, file: None, disk_bytes: 0, ..snapshot });
                }
                core.publish_monitor();
            }
            Err(error) => view.problem(format!("a snapshot could not be deleted: {error}")),
        }
    }
}

fn recorded(snapshot: &mut Snapshot, capture: CaptureReport) {
    snapshot.packets = capture.packets + capture.not_written;
    snapshot.kernel_dropped = capture.kernel_dropped;
    snapshot.interfaces = capture.interfaces;
    snapshot.file = capture.file;
    snapshot.problem = capture.problem.or_else(|| {
        (capture.not_written > 0)
            .then(|| format!("{} packets were analysed and not written: the file was full", capture.not_written))
    });
}

/// What an archived snapshot has beside it: the topology and the settings of this time.
fn context(core: &Core, settings: &MonitorSettings) -> Value {
    json!({"topology": core.sites.latest().topology, "settings": settings})
}

/// The verdict in one sentence.
fn text(matters: &[&Finding], keep: Option<Keep>, report: &AnalysisReport) -> String {
    let Some(worst) = matters.first() else {
        return match report.reasons.len() {
            0 => report.text.clone(),
            1 => format!("nothing that matters by the settings; left out: {}", report.reasons.join("")),
            several => format!(
                "nothing that matters by the settings; left out: {} and {} more",
                report.reasons.first().map_or("", String::as_str),
                several - 1
            ),
        };
    };
    let more = match matters.len() {
        1 => String::new(),
        several => format!(" and {} more", several - 1),
    };
    let known = if keep == Some(Keep::Known) { "; known, and archived before" } else { "" };
    format!("{}{more}{known}", worst.message)
}

fn publish(core: &Core, snapshot: &Snapshot) {
    let mut published = snapshot.clone();
    published.findings.truncate(MAX_PUBLISHED);
    core.publish(&format!("monitor/snapshots/{}", snapshot.snapshot_id), body_of(&published));
}
