//! The filing thread: files each snapshot that was judged, and forgets what need not be kept. Judging has a thread of its own
//! ([`judging`]).

mod judging;
mod mending;
mod trying;

use super::{
    Command,
    errands::Errand,
    floor, lock, recording,
    supervision::{Ended, said},
    view::is_filed,
    wall_ns,
};
use crate::{
    api::{CaptureReport, Event, MonitorSettings, MonitorState, Snapshot, SnapshotState, UtcTime},
    archive::{
        Handover, Leftover, Limits, Room, SetForward, Store, StoreError, WallClock, comfort_bytes, filing_floor_bytes,
        needed_bytes, to_remove,
    },
    monitor::{Earlier, neighbours_before},
    service::{free_bytes, replies::Core, results::body_of, supervised::Pulse},
};
use judging::Judged;
pub(super) use judging::{Closed, Judge};
use mending::LEFT;
pub(super) use mending::unfinished;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};
use trying::Tries;

/// So many closed snapshots may wait to be judged; then recording waits with closing the next.
const MAX_WAITING: usize = 4;
/// So many that are judged may wait to be filed.
const MAX_JUDGED: usize = 16;
/// So many snapshots there are at most, whatever their size: each takes some hundred bytes of memory.
const MAX_SNAPSHOTS: usize = 50_000;
/// How often it is looked whether something is to be forgotten.
const TIDY_PERIOD: Duration = Duration::from_secs(1);
/// Findings that a publication holds at most; the snapshot's own file has all.
const MAX_PUBLISHED: usize = 50;

/// What is to be filed.
enum Work {
    File(Box<Judged>),
    /// The capture broke off before it was closed: it is to be mended from what is on disk.
    Unclosed(Box<Closed>),
    /// Judging this one broke off: what is on disk may be judged later.
    Unjudged(String),
    Mend(Leftover, &'static str),
}

struct Clerk<'a> {
    core: Weak<Core>,
    store: Store,
    judge: &'a Mutex<Judge>,
    received: Receiver<Work>,
    /// Its signs of life.
    pulse: Pulse,
    waiting: VecDeque<Work>,
    clock: WallClock,
    started: Instant,
    tidied: Option<Instant>,
    /// What the open recordings had grown to, and by how much within a second.
    open_bytes: u64,
    growth_bytes: u64,
    /// The snapshot whose files are just being made into others: it stays meanwhile.
    being_filed: Option<String>,
    /// Recordings that were broken off, by an earlier netdiag or before the monitor was begun again.
    leftovers: Vec<Leftover>,
    /// Snapshots that could not be filed; their recordings lie where they were recorded.
    unfiled: BTreeMap<String, Tries>,
    refiled: Instant,
    /// There was too little room for one of them.
    lacks_room: bool,
}

/// Runs the monitor until it is told to stop, or cannot: this thread files, and two others, that it starts, record and judge.
pub(super) fn run(core: &Weak<Core>, commands: &Mutex<Receiver<Command>>, judge: &Mutex<Judge>) -> Ended {
    let Some(strong) = core.upgrade() else { return Ended::Stopped };
    let shipped = Weak::clone(core);
    let handover: Handover = Arc::new(move |snapshot_id, folder| {
        if let Some(core) = shipped.upgrade() {
            core.monitor.shipping.take(&core, snapshot_id, folder);
        }
    });
    let store = match Store::open(&strong.settings.state_dir.join("monitor"), handover) {
        Ok(store) => store,
        Err(error) => return not_begun(&strong, &error),
    };
    // What a killed netdiag left; looked for before anything new is opened, and its names are taken.
    let leftovers = match store.leftovers() {
        Ok(leftovers) => leftovers,
        Err(error) => return not_begun(&strong, &error),
    };
    let _ = strong.monitor.store.set(store.clone());
    // Recording begins before all that is there has been read; its names are taken.
    let (names, problems) = store.names();
    let mut view = lock(&strong.monitor.view);
    view.expect(names.iter().map(|(_, name)| name.clone()));
    problems.into_iter().for_each(|problem| view.problem(problem));
    drop(view);
    for leftover in &leftovers {
        if !lock(&strong.monitor.view).knows(&leftover.snapshot_id) {
            let pinned = store.is_open_pinned(&leftover.snapshot_id);
            lock(&strong.monitor.view).put(Snapshot { pinned, ..unfinished(&leftover.snapshot_id, LEFT) });
        }
    }
    // What an earlier run of this monitor had begun when it broke off.
    let nowhere = lock(&strong.monitor.view).nowhere(&leftovers);
    nowhere.into_iter().for_each(|snapshot| not_recorded(&strong, snapshot, "the monitor broke off"));
    let [recording, judging, filing] =
        [&strong.monitor.recording, &strong.monitor.judging, &strong.monitor.filing].map(Pulse::clone);
    strong.monitor.errands.are_done_here();
    drop(strong);
    let (closed, received) = sync_channel(MAX_WAITING);
    let (recorded, recorded_store) = (Weak::clone(core), store.clone());
    let is_alone = AtomicBool::new(false);
    thread::scope(|scope| {
        // What a thread takes from is gone with it, so that nothing is handed over to nobody.
        let (received, is_alone) = (received, &is_alone);
        let record = move || {
            let _gone = EndsRecording(core);
            let commands = lock(commands);
            let between = recording::Between { commands: &commands, closed, is_alone };
            recording::run(recorded, recorded_store, between, &recording)
        };
        let recorder = match thread::Builder::new().name("netdiag-recorder".into()).spawn_scoped(scope, record) {
            Ok(recorder) => recorder,
            Err(error) => return Ended::BrokeOff(format!("the recording cannot be started: {error}")),
        };
        let _leaves_it_alone = LeavesAlone(is_alone);
        let (work, handed_on) = sync_channel(MAX_JUDGED);
        let mut clerk = Clerk::new(core, store, (judge, handed_on), filing, leftovers);
        clerk.read_all(names);
        let clerk_thread = thread::current();
        let judges = move || {
            judging::run(core, judge, received, Desk { work, clerk: clerk_thread.clone() }, &judging);
            clerk_thread.unpark();
        };
        let judging = match thread::Builder::new().name("netdiag-judge".into()).spawn_scoped(scope, judges) {
            Ok(judging) => judging,
            Err(error) => return Ended::BrokeOff(format!("the judging cannot be started: {error}")),
        };
        loop {
            clerk.turn();
            if !clerk.wait() {
                break;
            }
        }
        clerk.turn();
        clerk.mend_all();
        drop(clerk);
        let broke_off = |what: &str, panic| Ended::BrokeOff(format!("the {what} broke off: {}", said(panic)));
        match (judging.join(), recorder.join()) {
            (Err(panic), _) => broke_off("judging", &*panic),
            (_, Err(panic)) => broke_off("recording", &*panic),
            (Ok(()), Ok(_)) => Ended::Stopped,
        }
    })
}

/// The disk is not there yet, say.
fn not_begun(core: &Core, error: &StoreError) -> Ended {
    core.monitor.shipping.begin();
    let mut view = lock(&core.monitor.view);
    view.state = MonitorState::Unavailable;
    view.problem(error.to_string());
    Ended::NotBegun
}

/// Where what is to be filed is put down, and the clerk is called.
struct Desk {
    work: SyncSender<Work>,
    clerk: Thread,
}

impl Desk {
    /// False: nobody comes for it any more.
    fn put(&self, work: Work) -> bool {
        let is_taken = self.work.send(work).is_ok();
        self.clerk.unpark();
        is_taken
    }
}

/// When the recording thread breaks off, that is known at once; the others may still have much to do.
struct EndsRecording<'a>(&'a Weak<Core>);

impl Drop for EndsRecording<'_> {
    fn drop(&mut self) {
        if let Some(core) = self.0.upgrade().filter(|_| thread::panicking()) {
            core.monitor.ends_recording();
        }
    }
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
        core.post_row(Event::ALARM, message);
    }
}

/// A snapshot that had begun does not come about. Who triggered it was promised one.
pub(super) fn not_recorded(core: &Core, snapshot: Snapshot, why: &str) {
    lock(&core.monitor.view).forget(&snapshot.snapshot_id);
    if let Some(reason) = &snapshot.trigger {
        alarm(core, format!("a trigger could not be followed, for {why}: {reason}"));
    }
    publish(core, &gone(snapshot, format!("not recorded: {why}")));
}

/// A snapshot as it is published when it is not there any more: in short, whatever was known of it.
fn gone(snapshot: Snapshot, text: String) -> Snapshot {
    let (findings, interfaces) = (Vec::new(), Vec::new());
    Snapshot { state: SnapshotState::Deleted, text, file: None, disk_bytes: 0, findings, interfaces, ..snapshot }
}

impl<'a> Clerk<'a> {
    fn new(
        core: &Weak<Core>,
        store: Store,
        (judge, received): (&'a Mutex<Judge>, Receiver<Work>),
        pulse: Pulse,
        leftovers: Vec<Leftover>,
    ) -> Self {
        Self {
            core: Weak::clone(core),
            store,
            judge,
            received,
            pulse,
            waiting: VecDeque::new(),
            clock: WallClock::default(),
            started: Instant::now(),
            tidied: None,
            open_bytes: 0,
            growth_bytes: 0,
            being_filed: None,
            leftovers,
            unfiled: BTreeMap::new(),
            refiled: Instant::now(),
            lacks_room: false,
        }
    }

    /// Reads what is filed: in short, but for what says which findings stay.
    fn read_all(&mut self, names: Vec<(SnapshotState, String)>) {
        let now = wall_ns();
        let (mut newest, mut closed) = (None, None);
        let is_start = lock(self.judge).begins();
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
            if let (Some(at), None, true) = (at, &snapshot.trigger, is_start) {
                let ago = Duration::from_nanos(u64::try_from(now.saturating_sub(at)).unwrap_or(0));
                closed = Some(closed.map_or(ago, |closed: Duration| closed.min(ago)));
                let settings = lock(&core.monitor.view).settings().clone();
                lock(self.judge).recall(&snapshot, ago, &settings);
            }
            lock(&core.monitor.view).put(snapshot);
        }
        let Some(core) = self.core.upgrade() else { return };
        lock(&core.monitor.view).all_read();
        if let Some(closed) = closed {
            let settings = lock(&core.monitor.view).settings().clone();
            lock(self.judge).resume(closed, &settings);
        }
        self.clock.begins(self.started.elapsed(), wall_ns(), newest);
        core.monitor.shipping.begin();
        core.publish_monitor();
    }

    /// What there is to do now; then it waits for more.
    fn turn(&mut self) {
        let pulse = self.pulse.clone();
        let turn = pulse.turn();
        self.do_errands();
        self.mend_leftovers();
        self.tidy();
        self.file_again();
        drop(turn);
        while let Some(work) = self.waiting.pop_front() {
            let _turn = pulse.turn();
            self.work(work);
            self.do_errands();
            self.tidy();
        }
    }

    /// Waits for what is to be done. False: nothing comes any more.
    fn wait(&mut self) -> bool {
        match self.received.try_recv() {
            Ok(work) => self.waiting.push_back(work),
            Err(TryRecvError::Empty) => thread::park_timeout(TIDY_PERIOD),
            Err(TryRecvError::Disconnected) => return false,
        }
        true
    }

    fn work(&mut self, work: Work) {
        let Some(core) = self.core.upgrade() else { return };
        match work {
            Work::File(judged) => {
                let snapshot_id = judged.snapshot.snapshot_id.clone();
                self.try_to(&core, &snapshot_id, |clerk| clerk.file(&core, *judged));
            }
            Work::Unclosed(closed) => {
                let snapshot_id = closed.snapshot.snapshot_id.clone();
                self.try_to(&core, &snapshot_id, |clerk| clerk.file_unclosed(&core, *closed));
            }
            Work::Unjudged(snapshot_id) => self.tried_in_vain(&core, &snapshot_id),
            Work::Mend(leftover, problem) => self.mend(&core, &leftover, problem),
        }
    }

    fn do_errands(&mut self) {
        let Some(core) = self.core.upgrade() else { return };
        core.monitor.remember_what_waits(&core.settings.state_dir);
        while let Some(errand) = core.monitor.errands.next() {
            match errand {
                Errand::Pin(snapshot_id, pinned) => self.pin(&core, &snapshot_id, pinned),
                Errand::Delete(snapshot_id) => {
                    if self.waits_no_more(&core, &snapshot_id) {
                        self.forget(&core, &snapshot_id, "it was asked for");
                    }
                }
            }
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
            Err(error) => return self.could_not(core, snapshot, &error),
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

    /// Writes within the room that there is from moment to moment. Meanwhile what need not be kept goes.
    fn within_room<T>(
        &mut self,
        settings: &MonitorSettings,
        snapshot_id: &str,
        write: impl FnOnce(&Store, Room<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.being_filed = Some(snapshot_id.to_owned());
        let store = self.store.clone();
        let written = write(&store, &mut || {
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

    /// How many snapshots are open, and what they have grown to. Those that wait to be filed write nothing any more: were room kept for them,
    /// there would be less with each, and at last none to file any.
    fn open(&self) -> (usize, u64) {
        let (open, bytes) = self.core.upgrade().map_or((0, 0), |core| lock(&core.monitor.view).open());
        (open.saturating_sub(self.unfiled.len()), bytes)
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
        drop(view);
        let (open, open_bytes) = self.open();
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
            core.post_row(Event::ALARM, message);
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
                    publish(core, &gone(snapshot, format!("deleted: {why}")));
                }
                core.publish_monitor();
            }
            Err(error) => view.problem(format!("a snapshot could not be deleted: {error}")),
        }
    }
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

fn publish(core: &Core, snapshot: &Snapshot) {
    let mut published = snapshot.clone();
    published.findings.truncate(MAX_PUBLISHED);
    core.publish(&format!("monitor/snapshots/{}", snapshot.snapshot_id), body_of(&published));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::monitor::testing::finding;

    #[test]
    fn what_is_gone_is_told_without_what_was_found() {
        let opened = Snapshot::opened("a".into(), UtcTime::from_unix_ns(0));
        let judged = Snapshot { findings: vec![finding()], file: Some("a.pcapng".into()), disk_bytes: 1, ..opened.clone() };
        let told = gone(judged, "not recorded: the disk failed".into());
        assert_eq!(told, Snapshot { state: SnapshotState::Deleted, text: "not recorded: the disk failed".into(), ..opened });
    }
}
