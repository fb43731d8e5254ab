//! The filing thread: judges each snapshot as it closes, files it, and forgets what need not be kept.

mod mending;

use super::{
    Command, floor, lock, recording,
    supervision::{Ended, said},
    view::is_filed,
};
use crate::{
    analysis::{Analysis, Told},
    api::{
        AnalysisReport, AnalysisVerdict, CaptureReport, Event, Finding, IgnoredFinding, MonitorSettings, MonitorState, Snapshot,
        SnapshotState, UtcTime,
    },
    archive::{
        Handover, Leftover, Limits, Room, SetForward, Store, StoreError, WallClock, comfort_bytes, filing_floor_bytes,
        needed_bytes, to_remove,
    },
    capture::ClosedWindow,
    monitor::{Earlier, FindingPattern, Keep, MAX_OPEN, NeighboursAfter, Recurrence, neighbours_before, suspicious},
    service::{free_bytes, replies::Core, results::body_of, supervised::Pulse},
};
use mending::BROKEN_OFF;
pub(super) use mending::unfinished;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

/// So many closed snapshots may wait to be judged; then recording waits with closing the next.
const MAX_WAITING: usize = 4;
/// So many that are judged may wait to be filed, while others are judged.
const MAX_JUDGED: usize = 16;
/// So many snapshots there are at most, whatever their size: each takes some hundred bytes of memory.
const MAX_SNAPSHOTS: usize = 50_000;
/// So many snapshots may overlap with one that is still open.
const MAX_TOLD: usize = 2 * MAX_OPEN;
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

/// What was made of a snapshot.
#[derive(Clone)]
struct Judgement {
    verdict: AnalysisVerdict,
    text: String,
    neighbour_of: Option<String>,
    /// It goes into the archive; and that not only as a neighbour.
    archived: bool,
    for_itself: bool,
}

/// A snapshot that is judged, and told, and is to be filed.
struct Judged {
    snapshot: Snapshot,
    judgement: Judgement,
    report: AnalysisReport,
    /// Its recording, if its file is still to be finished.
    window: Option<ClosedWindow>,
}

/// What is done in its turn.
enum Work {
    File(Box<Judged>),
    Mend(Leftover, &'static str),
    Other(Filing),
}

struct Clerk {
    core: Weak<Core>,
    store: Store,
    received: Receiver<Filing>,
    /// Its signs of life.
    pulse: Pulse,
    waiting: VecDeque<Work>,
    recurrence: Recurrence,
    neighbours: NeighboursAfter,
    /// What the latest snapshots have told, the newest first: those that overlap with them do not tell it again.
    told: Vec<Told>,
    clock: WallClock,
    started: Instant,
    tidied: Option<Instant>,
    /// What the open recordings had grown to, and by how much within a second.
    open_bytes: u64,
    growth_bytes: u64,
    /// The snapshot whose files are just being made into others: it stays meanwhile.
    being_filed: Option<String>,
    /// Recordings that were broken off, by an earlier netdiag.
    broken_off: Vec<Leftover>,
    /// Snapshots that could not be filed, and what was made of them; their recordings lie where they were recorded.
    unfiled: BTreeMap<String, Option<Judgement>>,
    refiled: Instant,
    /// There was too little room for one of them.
    lacks_room: bool,
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
    // Recording begins before all that is there has been read; its names are taken.
    let (names, problems) = store.names();
    let mut view = lock(&strong.monitor.view);
    view.expect(names.iter().map(|(_, name)| name.clone()));
    problems.into_iter().for_each(|problem| view.problem(problem));
    drop(view);
    // What a killed netdiag left; looked for before anything new is opened, and its names are taken.
    let leftovers = store.leftovers();
    for leftover in &leftovers {
        if !lock(&strong.monitor.view).knows(&leftover.snapshot_id) {
            let pinned = store.is_open_pinned(&leftover.snapshot_id);
            lock(&strong.monitor.view).put(Snapshot { pinned, ..unfinished(&leftover.snapshot_id, BROKEN_OFF) });
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
        let mut clerk = Clerk::new(core, store, received, pulse, leftovers);
        clerk.read_all(names);
        loop {
            clerk.turn();
            if !clerk.wait() {
                break;
            }
        }
        clerk.turn();
        clerk.mend_all();
        drop(clerk);
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
    fn new(core: &Weak<Core>, store: Store, received: Receiver<Filing>, pulse: Pulse, broken_off: Vec<Leftover>) -> Self {
        Self {
            core: Weak::clone(core),
            store,
            received,
            pulse,
            waiting: VecDeque::new(),
            recurrence: Recurrence::default(),
            neighbours: NeighboursAfter::default(),
            told: Vec::new(),
            clock: WallClock::default(),
            started: Instant::now(),
            tidied: None,
            open_bytes: 0,
            growth_bytes: 0,
            being_filed: None,
            broken_off,
            unfiled: BTreeMap::new(),
            refiled: Instant::now(),
            lacks_room: false,
        }
    }

    /// Reads what is filed: in short, but for what says which findings stay.
    fn read_all(&mut self, names: Vec<(SnapshotState, String)>) {
        let now = wall_ns();
        let (mut newest, mut closed) = (None, None);
        for (state, name) in names {
            let Some(core) = self.core.upgrade() else { return };
            let snapshot = match self.store.read(state, &name) {
                Ok(snapshot) => snapshot,
                Err(problem) => {
                    lock(&core.monitor.view).problem(problem);
                    continue;
                }
            };
            let at = snapshot.closed_at.map(UtcTime::unix_ns);
            newest = newest.max(at);
            if let (Some(at), None) = (at, &snapshot.trigger) {
                let ago = Duration::from_nanos(u64::try_from(now.saturating_sub(at)).unwrap_or(0));
                let at = RECALLED.saturating_sub(ago);
                closed = closed.max(Some(at));
                let settings = lock(&core.monitor.view).settings().clone();
                let matters = suspicious(&snapshot.findings, settings.severity, &ignored(&settings));
                let for_itself = state == SnapshotState::Archived && snapshot.neighbour_of.is_none();
                self.recurrence.recall(&matters, at, for_itself);
            }
            lock(&core.monitor.view).put(snapshot);
        }
        let Some(core) = self.core.upgrade() else { return };
        let mut view = lock(&core.monitor.view);
        view.all_read();
        if let Some(closed) = closed {
            self.recurrence.resume(closed, RECALLED + self.started.elapsed(), gone_after(view.settings()));
        }
        drop(view);
        self.clock.begins(self.started.elapsed(), wall_ns(), newest);
        core.monitor.shipping.begin();
        core.publish_monitor();
    }

    /// What there is to do now; then it waits for more.
    fn turn(&mut self) {
        let pulse = self.pulse.clone();
        let turn = pulse.turn();
        self.mend_broken_off();
        self.tidy();
        self.file_again();
        drop(turn);
        while let Some(work) = self.waiting.pop_front() {
            let _turn = pulse.turn();
            self.work(work);
            self.tidy();
        }
    }

    /// Waits for what is to be done, and does it when it is its turn. False: nothing comes any more.
    fn wait(&mut self) -> bool {
        match self.received.recv_timeout(TIDY_PERIOD) {
            Ok(filing) => {
                let pulse = self.pulse.clone();
                let _turn = pulse.turn();
                self.take(filing);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// Judges at once what has been closed meanwhile; all else waits for its turn.
    fn hear(&mut self) {
        while self.waiting.len() < MAX_JUDGED {
            let Ok(filing) = self.received.try_recv() else { return };
            self.take(filing);
        }
    }

    fn take(&mut self, filing: Filing) {
        match filing {
            Filing::Closed(closed) => {
                let Some(core) = self.core.upgrade() else { return };
                self.guarded(&core, |clerk| clerk.closed(&core, *closed));
            }
            other => self.waiting.push_back(Work::Other(other)),
        }
    }

    fn work(&mut self, work: Work) {
        let Some(core) = self.core.upgrade() else { return };
        match work {
            Work::File(judged) => self.guarded(&core, |clerk| clerk.file(&core, *judged)),
            Work::Mend(leftover, problem) => self.mend(&core, &leftover, problem),
            Work::Other(Filing::Closed(closed)) => self.guarded(&core, |clerk| clerk.closed(&core, *closed)),
            Work::Other(Filing::Pin(snapshot_id, pinned)) => self.pin(&core, &snapshot_id, pinned),
            Work::Other(Filing::Delete(snapshot_id)) => self.forget(&core, &snapshot_id, "it was asked for"),
            Work::Other(Filing::Remember) => core.monitor.remember(&core.settings.state_dir),
        }
    }

    fn pin(&self, core: &Core, snapshot_id: &str, pinned: bool) {
        let pinning = self.store.set_pinned(snapshot_id, pinned);
        let mut view = lock(&core.monitor.view);
        match (pinning, view.snapshot(snapshot_id)) {
            (Ok(()), Some(snapshot)) => {
                let snapshot = Snapshot { pinned, ..snapshot };
                view.put(snapshot.clone());
                drop(view);
                publish(core, &core.monitor.whole(snapshot));
            }
            // It is pinned as it is filed.
            (Err(_), Some(snapshot)) if !is_filed(snapshot.state) => {}
            (Err(error), _) => view.problem(error.to_string()),
            (Ok(()), None) => {}
        }
    }

    /// A panic over one snapshot must not end the filing of all others; its recording stays where it is.
    fn guarded(&mut self, core: &Core, work: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            let said = said(&*panic);
            alarm(core, format!("the filing of a snapshot broke off; its recording is still there; please report this: {said}"));
        }
    }

    /// Judges a snapshot at once; its file is finished when it is its turn.
    fn closed(&mut self, core: &Core, closed: Closed) {
        let Closed { mut snapshot, window, sink } = closed;
        const BROKE_OFF: &str = "the capture broke off before the snapshot was closed";
        // Without a word from the capture, what is on disk counts.
        if window.is_none() {
            if let Some(leftover) = self.store.leftovers().into_iter().find(|left| left.snapshot_id == snapshot.snapshot_id) {
                return self.waiting.push_back(Work::Mend(leftover, BROKE_OFF));
            }
            snapshot.file = None;
            snapshot.problem = Some(BROKE_OFF.to_owned());
        }
        let report = {
            let mut analysis = lock(&sink);
            analysis.set_dropped(window.as_ref().map_or(0, ClosedWindow::kernel_dropped));
            analysis.finish();
            analysis.report_after(&self.told)
        };
        if snapshot.trigger.is_none() {
            self.told.truncate(MAX_TOLD - 1);
            self.told.insert(0, Told::new(&snapshot.snapshot_id, &report.findings));
        }
        snapshot.packets = report.packets;
        snapshot.kernel_dropped = Some(report.dropped);
        if snapshot.trigger.is_none() {
            core.monitor.found(core, &report.findings);
        }
        let judged = self.judge(core, snapshot, report, window);
        self.waiting.push_back(Work::File(Box::new(judged)));
    }

    /// Judges a snapshot, and tells it: before it is filed, which takes as long as the disk does.
    fn judge(&mut self, core: &Core, mut snapshot: Snapshot, report: AnalysisReport, window: Option<ClosedWindow>) -> Judged {
        let known = self.unfiled.get(&snapshot.snapshot_id).cloned().flatten();
        let is_new = known.is_none();
        let settings = lock(&core.monitor.view).settings().clone();
        let (judgement, keep) = match known {
            Some(judgement) => (judgement, None),
            None => self.judgement(&snapshot, &report, &settings),
        };
        snapshot.verdict = Some(judgement.verdict);
        snapshot.text.clone_from(&judgement.text);
        snapshot.neighbour_of.clone_from(&judgement.neighbour_of);
        snapshot.findings.clone_from(&report.findings);
        snapshot.state = SnapshotState::Filing;
        let mut view = lock(&core.monitor.view);
        let former = view.snapshot(&snapshot.snapshot_id);
        snapshot.pinned = former.as_ref().map_or(snapshot.pinned, |former| former.pinned);
        snapshot.disk_bytes = former.map_or(0, |former| former.disk_bytes);
        if is_new {
            view.judged(&snapshot);
        }
        view.put(snapshot.clone());
        drop(view);
        publish(core, &snapshot);
        core.publish_monitor();
        if is_new && judgement.for_itself && keep != Some(Keep::Again) {
            let why = snapshot.trigger.as_ref().map_or_else(String::new, |trigger| format!(" (saved because: {trigger})"));
            let what = if keep.is_some() { "is suspect" } else { "was saved" };
            let message = format!("snapshot {} {what}{why}: {}", snapshot.snapshot_id, snapshot.text);
            core.post(&Event { source: core.settings.process_name.clone(), message, severity: STATUS });
        }
        Judged { snapshot, judgement, report, window }
    }

    /// What is to be made of a snapshot by what was found, and by what was found before.
    fn judgement(&mut self, snapshot: &Snapshot, report: &AnalysisReport, settings: &MonitorSettings) -> (Judgement, Option<Keep>) {
        let matters = suspicious(&report.findings, settings.severity, &ignored(settings));
        let repeat = Duration::from_secs(settings.repeat_s);
        let continuous = snapshot.trigger.is_none();
        let now = RECALLED + self.started.elapsed();
        let keep = match (matters.is_empty(), continuous) {
            (true, _) => None,
            (false, true) => Some(self.recurrence.take(&matters, now, repeat, gone_after(settings))),
            // What was triggered is archived for the trigger's sake; it says nothing of the continuous ones.
            (false, false) => Some(self.recurrence.clone().take(&matters, now, repeat, gone_after(settings))),
        };
        let for_itself = !continuous || matches!(keep, Some(Keep::New | Keep::Again));
        let neighbour_of = if for_itself { None } else { self.neighbours.take() };
        if continuous && for_itself {
            self.neighbours.archived(&snapshot.snapshot_id, settings.neighbours);
        }
        let judgement = Judgement {
            verdict: if keep.is_some() { AnalysisVerdict::Suspect } else { AnalysisVerdict::Clean },
            text: text(&matters, keep, report),
            archived: for_itself || neighbour_of.is_some(),
            neighbour_of,
            for_itself,
        };
        (judgement, keep)
    }

    /// Files a snapshot that is judged.
    fn file(&mut self, core: &Core, judged: Judged) {
        let Judged { mut snapshot, judgement, mut report, window } = judged;
        if let Some(window) = window {
            recorded(&mut snapshot, window.finish(true));
        }
        report.file.clone_from(&snapshot.file);
        let view = lock(&core.monitor.view);
        let settings = view.settings().clone();
        snapshot.pinned = view.snapshot(&snapshot.snapshot_id).map_or(snapshot.pinned, |known| known.pinned);
        drop(view);
        snapshot.state = if judgement.archived { SnapshotState::Archived } else { SnapshotState::Temporary };
        let context = judgement.archived.then(|| context(core, &settings));
        if judgement.archived {
            self.make_room(core, &settings, snapshot.file.as_deref());
        }
        let filed = self.within_room(&settings, &snapshot.snapshot_id, |store, room| {
            store.file(snapshot.clone(), &report, context.as_ref(), room)
        });
        let filed = match filed {
            Ok(filed) => filed,
            Err(error) => return self.could_not(core, snapshot, judgement, &error),
        };
        self.unfiled.remove(&filed.snapshot_id);
        lock(&core.monitor.view).put(filed.clone());
        publish(core, &filed);
        core.publish_monitor();
        if filed.trigger.is_none() && judgement.for_itself {
            self.archive_neighbours_before(core, &filed, &settings);
        }
        self.tidied = None;
    }

    /// Writes within the room that there is from moment to moment. Meanwhile what is closed is judged, and what need not be kept goes.
    fn within_room<T>(
        &mut self,
        settings: &MonitorSettings,
        snapshot_id: &str,
        write: impl FnOnce(&Store, Room<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.being_filed = Some(snapshot_id.to_owned());
        let store = self.store.clone();
        let written = write(&store, &mut || {
            self.hear();
            self.tidy();
            self.room(settings)
        });
        self.being_filed = None;
        written
    }

    /// The bytes that may be written beside what is recorded.
    fn room(&self, settings: &MonitorSettings) -> u64 {
        let kept_free = filing_floor_bytes(floor(self.store.root(), settings), self.open().0);
        free_bytes(self.store.root()).unwrap_or(0).saturating_sub(kept_free)
    }

    /// How many snapshots are open, and what they have grown to.
    fn open(&self) -> (usize, u64) {
        self.core.upgrade().map_or((0, 0), |core| lock(&core.monitor.view).open())
    }

    /// Clean ones go if without them there is no room to compress a recording.
    fn make_room(&self, core: &Core, settings: &MonitorSettings, recording: Option<&str>) {
        let Some(bytes) = recording.and_then(|path| fs::metadata(path).ok()).map(|recording| recording.len()) else { return };
        let mut stored = lock(&core.monitor.view).stored();
        stored.iter_mut().for_each(|stored| stored.pinned |= stored.archived);
        let limits = Limits {
            clean_retention: Duration::MAX,
            archive_max_age: Duration::MAX,
            archive_max_bytes: u64::MAX,
            max_snapshots: usize::MAX,
            min_free_bytes: filing_floor_bytes(floor(self.store.root(), settings), self.open().0).saturating_add(bytes),
            is_clock_sure: false,
        };
        let free = free_bytes(self.store.root()).unwrap_or(u64::MAX);
        for removal in to_remove(&stored, wall_ns(), free, &limits) {
            self.forget(core, &removal.snapshot_id, &removal.why.to_string());
        }
    }

    fn archive_neighbours_before(&mut self, core: &Core, suspect: &Snapshot, settings: &MonitorSettings) {
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
            let snapshot_id = earlier.snapshot_id.clone();
            let context = context(core, settings);
            let archived = self.within_room(settings, &snapshot_id, |store, room| {
                let snapshot = Snapshot { neighbour_of: Some(suspect.snapshot_id.clone()), ..store.get(&snapshot_id)? };
                store.archive(snapshot, &context, room)
            });
            match archived {
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
        let (open, open_bytes) = view.open();
        drop(view);
        for stored in &mut stored {
            stored.held = core.monitor.shipping.holds(&stored.snapshot_id);
            stored.pinned |= self.being_filed.as_ref() == Some(&stored.snapshot_id);
        }
        self.growth_bytes = open_bytes.saturating_sub(self.open_bytes).max(self.growth_bytes / 2);
        self.open_bytes = open_bytes;
        let now = wall_ns();
        if let Some(SetForward { by }) = self.clock.look(self.started.elapsed(), now) {
            let by = by.as_secs();
            let message = format!("the clock was set forward by {by} s; for a day nothing is deleted from the archive for its age");
            core.post(&Event { source: core.settings.process_name.clone(), message, severity: ALARM });
        }
        let limits = Limits {
            clean_retention: Duration::from_secs(settings.clean_retention_s),
            archive_max_age: Duration::from_secs(settings.archive_max_age_s),
            archive_max_bytes: settings.archive_max_bytes,
            max_snapshots: MAX_SNAPSHOTS,
            min_free_bytes: comfort_bytes(floor(self.store.root(), &settings), open, self.growth_bytes),
            is_clock_sure: self.clock.is_sure(self.started.elapsed()),
        };
        let free = free_bytes(self.store.root()).unwrap_or(u64::MAX);
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

/// The time of the start, on the clock by which findings stay: what was found before is known by how long ago it was.
const RECALLED: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A finding that is not seen for so long has gone.
fn gone_after(settings: &MonitorSettings) -> Duration {
    settings.snapshot_s.0 * 2 + Duration::from_secs(60)
}

fn ignored(settings: &MonitorSettings) -> Vec<FindingPattern> {
    let pattern =
        |ignored: &IgnoredFinding| FindingPattern { code: ignored.code.clone(), endpoint_id: ignored.endpoint_id.clone() };
    settings.ignore.iter().map(pattern).collect()
}

fn wall_ns() -> i64 {
    UtcTime::from(SystemTime::now()).unix_ns()
}

fn recorded(snapshot: &mut Snapshot, capture: CaptureReport) {
    snapshot.packets = capture.packets + capture.not_written;
    snapshot.kernel_dropped = Some(capture.kernel_dropped);
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
