//! The recording thread: one continuous capture, and on it the snapshots that open and close by the clock or by a trigger.

mod capturing;
mod open;

use super::{
    Command,
    filing::{Closed, alarm, not_recorded},
    floor, heard, lock,
    series::Reading,
    supervision, wall_ns,
};
use crate::{
    analysis::{Analysis, Expectation, Watch},
    api::{Event, MonitorInterface, MonitorSettings, MonitorState, Snapshot, UtcTime},
    archive::{Store, may_record},
    capture::{self, AtSeam, Continuous, ContinuousOptions, WindowOptions},
    monitor::{OpenSnapshot, Outages, Schedule, Silences, Ways},
    service::{free_bytes, replies::Core, results::body_of, runners::local_addresses, supervised::Pulse},
};
use open::{Closing, Ends, Open};
use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError},
    },
    time::{Duration, Instant},
};

/// How long what is closed at the very end is waited for; it takes some 120 ms, and more when the disk is slow.
const CLOSE_PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked at everything, at the least: an interface that was lost for a moment is seen.
const LOOK: Duration = Duration::from_millis(500);
/// How often it is looked whether what is being closed is closed.
const CLOSING_LOOK: Duration = Duration::from_millis(20);
/// How long until it is looked again whether the configs have been read, at the start.
const BEFORE_THE_CONFIGS: Duration = Duration::from_millis(50);
/// How often the publication of what only counts upwards is made.
const PUBLISH_PERIOD: Duration = Duration::from_secs(5);
/// How often it is looked whether a finding triggers, and at most what part of the time that may take.
const FINDINGS_PERIOD: Duration = Duration::from_secs(1);
const FINDINGS_SHARE: u32 = 50;
/// How often it is written down who was heard.
const HEARD_PERIOD: Duration = Duration::from_secs(10);
/// Ends the names of what the flight recorder saved.
pub(super) const TRIGGERED: &str = "_trigger";

/// What the recording thread shares with those that judge and file.
pub(super) struct Between<'a> {
    pub commands: &'a Receiver<Command>,
    pub closed: SyncSender<Box<Closed>>,
    /// The filing thread has broken off.
    pub is_alone: &'a AtomicBool,
}

struct Recorder<'a> {
    core: Weak<Core>,
    store: Store,
    closed: SyncSender<Box<Closed>>,
    is_alone: &'a AtomicBool,
    capture: Option<(ContinuousOptions, Continuous<Analysis>)>,
    open: Vec<Open>,
    /// Snapshots of the clock whose capture or filter another one has taken the place of: they end when those that follow are open.
    leaving: Vec<Open>,
    closing: Vec<Closing>,
    /// The filter of the capture is still to be put in place, since then.
    filter_due: Option<Instant>,
    ways: Ways,
    outages: Outages,
    silences: Silences,
    /// There is something in them to be written down; and when it was last.
    has_heard: bool,
    heard_at: Option<Instant>,
    started: Instant,
    findings_at: Instant,
    full: bool,
    retry_at: Option<Instant>,
    /// What was told of an interface that is lost.
    lost: Option<String>,
    published: Option<(MonitorState, Vec<(String, bool)>)>,
    published_at: Instant,
    reading: Reading,
}

/// Records until it is told to stop (true), or is alone; then everything is closed and handed over.
pub(super) fn run(core: Weak<Core>, store: Store, between: Between<'_>, pulse: &Pulse) -> bool {
    let Between { commands, closed, is_alone } = between;
    let now = Instant::now();
    let mut recorder = Recorder {
        core,
        store,
        closed,
        is_alone,
        capture: None,
        open: Vec::new(),
        leaving: Vec::new(),
        closing: Vec::new(),
        filter_due: None,
        ways: Ways::default(),
        outages: Outages::default(),
        silences: Silences::default(),
        has_heard: false,
        heard_at: None,
        started: now,
        findings_at: now,
        full: false,
        retry_at: None,
        lost: None,
        published: None,
        published_at: now,
        reading: Reading::default(),
    };
    recorder.recall_heard();
    let stopped = loop {
        let Some(core) = recorder.core.upgrade() else { break true };
        let turn = pulse.turn();
        let wait = recorder.look(&core);
        if is_alone.load(Ordering::Acquire) {
            break false;
        }
        drop(core);
        drop(turn);
        match commands.recv_timeout(wait) {
            Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break true,
            Ok(command) => {
                let _turn = pulse.turn();
                recorder.obey(command);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    recorder.finish();
    stopped
}

impl Recorder<'_> {
    fn obey(&mut self, command: Command) {
        match command {
            Command::Trigger(snapshot) => self.save(*snapshot),
            // What has changed is looked at in each round.
            Command::Look | Command::Stop => {}
        }
    }

    /// What each endpoint was doing when netdiag ended.
    fn recall_heard(&mut self) {
        let Some(core) = self.core.upgrade() else { return };
        match heard::recall(&core.settings.state_dir) {
            Ok(silences) => self.silences = silences,
            Err(problem) => alarm(&core, problem),
        }
    }

    /// Has written down what each endpoint is doing, now and then and at the end.
    fn remember_heard(&mut self, core: &Core, is_end: bool) {
        let is_due = is_end || self.heard_at.is_none_or(|at| at.elapsed() >= HEARD_PERIOD);
        if self.has_heard && is_due {
            (self.has_heard, self.heard_at) = (false, Some(Instant::now()));
            core.monitor.heard(&self.silences);
        }
    }

    /// The judging thread ends after this one. A long queue is waited for: packets go on being recorded meanwhile.
    fn hand_over(&mut self, closed: Closed) {
        if self.closed.send(Box::new(closed)).is_err() {
            self.is_alone.store(true, Ordering::Release);
        }
    }

    /// Looks at everything; gives how long to wait until the next look.
    fn look(&mut self, core: &Core) -> Duration {
        let view = lock(&core.monitor.view);
        let (enabled, settings) = (view.is_enabled(), view.settings().clone());
        drop(view);
        let free = free_bytes(self.store.root()).unwrap_or(0);
        self.look_for_outages(core);
        let (state, wait) = if enabled { self.record(core, &settings, free) } else { (self.off(), Duration::from_secs(1)) };
        self.hand_over_closed(core);
        self.remember_heard(core, false);
        self.put_filter_in_place(core, &settings);
        let next = guarded(core, || self.reading.look(&core.monitor.series, oldest(&self.open)));
        let wait = wait.min(next.unwrap_or_else(|| self.read_anew()));
        self.tell(core, state, free);
        let has_more = !self.closing.is_empty() || self.filter_due.is_some();
        wait.min(if has_more { CLOSING_LOOK } else { LOOK })
    }

    fn off(&mut self) -> MonitorState {
        self.end_capture();
        self.full = false;
        MonitorState::Off
    }

    fn record(&mut self, core: &Core, settings: &MonitorSettings, free: u64) -> (MonitorState, Duration) {
        let second = Duration::from_secs(1);
        let floor = floor(self.store.root(), settings);
        let has_room = may_record(free, floor, self.full);
        if has_room == self.full {
            self.full = !has_room;
            let message = match has_room {
                true => "the monitor records again: the disk has room".to_owned(),
                false => {
                    format!("the monitor has paused: {free} bytes of disk are free, less than the {floor} to be kept free")
                }
            };
            let severity = if has_room { Event::STATUS } else { Event::ALARM };
            core.post_row(severity, message.clone());
            let mut view = lock(&core.monitor.view);
            if has_room { view.well() } else { view.problem(message) }
        }
        if self.full {
            self.end_capture();
            return (MonitorState::Paused, second);
        }
        if let Err(state) = self.capture(core, settings) {
            return (state, if core.sites.is_read() { second } else { BEFORE_THE_CONFIGS });
        }
        let wait = self.schedule(core, settings);
        self.close_leaving();
        self.look_for_findings(core, settings);
        let captured = self.capture.as_ref().is_some_and(|(_, capture)| capture.interfaces().iter().any(|one| one.captured));
        (if captured { MonitorState::Recording } else { MonitorState::Paused }, wait)
    }

    /// Opens and closes what is due.
    fn schedule(&mut self, core: &Core, settings: &MonitorSettings) -> Duration {
        let schedule = Schedule { slot: settings.snapshot_s.0, overlap: settings.overlap_s.0 };
        let scheduled: Vec<(usize, OpenSnapshot)> = self
            .open
            .iter()
            .enumerate()
            .filter_map(|(index, open)| if let Ends::BySchedule(snapshot) = &open.ends { Some((index, *snapshot)) } else { None })
            .collect();
        let now = Instant::now();
        let opened = now.saturating_duration_since(self.started);
        let open: Vec<OpenSnapshot> = scheduled.iter().map(|(_, snapshot)| *snapshot).collect();
        let step = schedule.step(wall_ns(), opened, &open);
        let mut due: Vec<usize> = step.close.iter().filter_map(|place| scheduled.get(*place)).map(|(index, _)| *index).collect();
        let over = |open: &Open| matches!(open.ends, Ends::At(at) if at <= now);
        due.extend(self.open.iter().enumerate().filter(|(_, open)| over(open)).map(|(index, _)| index));
        due.sort_unstable();
        // What opens comes first, so that nothing falls between.
        if let Some(slot) = step.open {
            let begins = slot.saturating_mul(i64::try_from(schedule.slot.as_nanos()).unwrap_or(i64::MAX));
            let name = name_of(UtcTime::from_unix_ns(begins));
            let begun = lock(&core.monitor.view).begin(&name, UtcTime::from_unix_ns(wall_ns()).to_millis(), None);
            if let Some(snapshot) = begun {
                self.open(core, settings, snapshot, Ends::BySchedule(OpenSnapshot { slot, opened }));
            }
        }
        // The oldest first: those that follow on it have their seam with it, also when they are due themselves.
        for (gone, index) in due.into_iter().enumerate() {
            let open = self.open.remove(index.saturating_sub(gone));
            self.close(open);
        }
        let triggered = self.open.iter().filter_map(|open| if let Ends::At(at) = open.ends { Some(at) } else { None }).min();
        let until = triggered.map_or(step.wait, |at| at.saturating_duration_since(Instant::now()));
        // An overlap or a slot of nothing must not become a busy loop.
        step.wait.min(until).max(Duration::from_millis(5))
    }

    /// Looks whether what is being recorded holds a finding that triggers. What it holds in the end is looked at when it is judged.
    fn look_for_findings(&mut self, core: &Core, settings: &MonitorSettings) {
        let begun = Instant::now();
        if begun < self.findings_at || !settings.triggers.iter().any(|rule| rule.finding.is_some()) {
            return;
        }
        let report = oldest(&self.open).and_then(|sink| guarded(core, || lock(sink).report()));
        let Some(report) = report else { return };
        let now = Instant::now();
        self.findings_at = now + FINDINGS_PERIOD.max((now - begun) * FINDINGS_SHARE);
        core.monitor.found(core, &report.findings);
    }

    /// Saves what is remembered as this snapshot.
    fn save(&mut self, snapshot: Snapshot) {
        let Some(core) = self.core.upgrade() else { return };
        let settings = lock(&core.monitor.view).settings().clone();
        if self.capture.is_none() {
            return not_recorded(&core, snapshot, "nothing is recorded any more");
        }
        let ends = Ends::At(Instant::now() + Duration::from_secs(settings.post_s));
        self.open(&core, &settings, snapshot, ends);
    }

    fn open(&mut self, core: &Core, settings: &MonitorSettings, snapshot: Snapshot, ends: Ends) {
        let Some((options, capture)) = &self.capture else { return };
        let analysis = analysis(core);
        let sink = Arc::new(Mutex::new(analysis));
        let past = if snapshot.trigger.is_some() { options.past } else { Duration::ZERO };
        let file = self.store.recording(&snapshot.snapshot_id);
        let window = WindowOptions {
            file: file.clone(),
            max_bytes: settings.snapshot_max_bytes,
            min_free_bytes: floor(self.store.root(), settings),
            with_past: !past.is_zero(),
            interfaces: Vec::new(),
            filter: String::new(),
        };
        let opened_ns = wall_ns().saturating_sub(i64::try_from(past.as_nanos()).unwrap_or(0));
        let opened_at = UtcTime::from_unix_ns(opened_ns).to_millis();
        let snapshot = Snapshot { opened_at, file: Some(file.display().to_string()), ..snapshot };
        let opened = self.started.elapsed();
        let window = capture.open(window, Arc::clone(&sink));
        if let Some(reason) = &snapshot.trigger
            && let Err(error) = self.store.set_reason(&snapshot.snapshot_id, reason)
        {
            tracing::warn!(%error, "should netdiag be killed now, the reason of the snapshot is lost");
        }
        core.publish(&format!("monitor/snapshots/{}", snapshot.snapshot_id), body_of(&snapshot));
        lock(&core.monitor.view).put(snapshot.clone());
        self.open.push(Open { snapshot, capture: capture.clone(), window, sink, past, opened, shared_until: Duration::ZERO, ends });
    }

    /// Closes a snapshot. It is handed over to be judged and filed when the capture has let go of its file.
    fn close(&mut self, open: Open) {
        let core = self.core.upgrade();
        if core.is_some_and(|core| guarded(&core, || self.reading.closing(&open.sink, oldest(&self.open))).is_none()) {
            self.read_anew();
        }
        let closed = open.capture.close_at_seam(open.window, self.seams_with(&open));
        self.closing.push(Closing { open, closed, asked: self.started.elapsed() });
    }

    /// What was counted is left; gives how long to wait until the next look.
    fn read_anew(&mut self) -> Duration {
        self.reading = Reading::default();
        LOOK
    }

    /// One after the other: those that follow on one have their seam with it.
    fn close_leaving(&mut self) {
        while !self.leaving.is_empty() {
            let open = self.leaving.remove(0);
            self.close(open);
        }
    }

    /// What the snapshots that follow on one are to do when it is closed: what they have found by then, it has found, too. One that was
    /// triggered is nobody's predecessor.
    fn seams_with(&self, closing: &Open) -> Vec<(u64, AtSeam<Analysis>)> {
        let follows = |next: &&Open| {
            closing.is_by_schedule()
                && next.is_by_schedule()
                && next.opened >= closing.opened
                && next.capture.is_same(&closing.capture)
        };
        let seam = |next: &Open| {
            let by = closing.snapshot.snapshot_id.clone();
            let mark: AtSeam<Analysis> = Box::new(move |analysis, dropped| analysis.mark_seam(&by, dropped));
            (next.window, mark)
        };
        self.open.iter().chain(&self.leaving).filter(follows).map(seam).collect()
    }

    /// Hands over what is closed, that of one capture in its order. As long as the capture has not let go of a file, that is not touched; a
    /// capture that has ended has.
    fn hand_over_closed(&mut self, core: &Core) {
        let mut index = 0;
        while let Some(closing) = self.closing.get(index) {
            let mut before = self.closing.iter().take(index);
            let waits_for_another = before.any(|before| before.open.capture.is_same(&closing.open.capture));
            let outcome = if waits_for_another { Err(TryRecvError::Empty) } else { closing.closed.try_recv() };
            if matches!(outcome, Err(TryRecvError::Empty)) {
                index += 1;
                continue;
            }
            let window = outcome.ok();
            let Closing { open, asked, .. } = self.closing.remove(index);
            guarded(core, || open.remark_outages(&self.outages.within(open.own_from(), asked), asked));
            if open.is_by_schedule() && window.is_some() {
                let outages = self.outages.within(open.began(), asked);
                guarded(core, || open.remark_silences(core, &mut self.silences, &outages, asked));
                self.has_heard = true;
                let others =
                    self.open.iter_mut().chain(&mut self.leaving).chain(self.closing.iter_mut().map(|closing| &mut closing.open));
                others
                    .filter(|other| other.is_by_schedule() && other.opened >= open.opened)
                    .for_each(|other| other.shared_until = asked);
            }
            let Open { mut snapshot, sink, past, .. } = open;
            // Less may have been remembered.
            let missing = past.saturating_sub(window.as_ref().map_or(past, capture::ClosedWindow::past));
            let missing_ns = i64::try_from(missing.as_nanos()).unwrap_or(i64::MAX);
            snapshot.opened_at = UtcTime::from_unix_ns(snapshot.opened_at.unix_ns().saturating_add(missing_ns)).to_millis();
            snapshot.closed_at = Some(UtcTime::from_unix_ns(wall_ns()).to_millis());
            self.hand_over(Closed { snapshot, window, sink });
        }
    }

    /// Closes everything, and hands it over. What a capture does not let go of in time stays for the next start.
    fn finish(&mut self) {
        self.end_capture();
        let Some(core) = self.core.upgrade() else { return };
        let deadline = Instant::now() + CLOSE_PATIENCE;
        while !self.closing.is_empty() && Instant::now() < deadline {
            self.hand_over_closed(&core);
            std::thread::sleep(CLOSING_LOOK);
        }
        self.remember_heard(&core, true);
        if !self.closing.is_empty() {
            tracing::error!("{} snapshots could not be closed; the next start mends them", self.closing.len());
        }
    }

    /// Brings the view up to date, and publishes when more has changed than a count.
    fn tell(&mut self, core: &Core, state: MonitorState, free: u64) {
        let interfaces: Vec<MonitorInterface> =
            self.capture.iter().flat_map(|(_, capture)| capture.interfaces()).map(told).collect();
        let captured: Vec<(String, bool)> = interfaces.iter().map(|one| (one.name.clone(), one.captured)).collect();
        let mut view = lock(&core.monitor.view);
        for open in &self.open {
            let Some(progress) = open.capture.progress(open.window) else { continue };
            let id = &open.snapshot.snapshot_id;
            if progress.file_ended {
                view.problem(format!("the file of {id} has ended early; what comes is analysed and not written"));
            }
            if let Some(snapshot) = view.snapshot(id) {
                view.put(Snapshot { packets: progress.packets, disk_bytes: progress.bytes, ..snapshot });
            }
        }
        let lost = interfaces.iter().find(|one| !one.captured);
        let lost =
            lost.map(|lost| format!("{} is not recorded: {}", lost.name, lost.problem.as_deref().unwrap_or("it cannot be opened")));
        if let Some(former) = self.lost.take().filter(|former| lost.as_ref() != Some(former)) {
            view.solved(&former);
        }
        if let Some(lost) = &lost {
            view.problem(lost.clone());
        }
        self.lost = lost;
        (view.state, view.interfaces, view.free_bytes, view.is_full) = (state, interfaces, free, self.full);
        drop(view);
        let told = Some((state, captured));
        let now = Instant::now();
        if told != self.published || now >= self.published_at + PUBLISH_PERIOD {
            self.published = told;
            self.published_at = now;
            core.publish_monitor();
        }
    }
}

impl Drop for Recorder<'_> {
    /// What a panic has left open: others may share its capture, which would go on writing while the file is mended.
    fn drop(&mut self) {
        for open in self.open.drain(..).chain(self.leaving.drain(..)) {
            drop(open.capture.close_at_seam(open.window, Vec::new()));
        }
    }
}

/// The analysis of the oldest of the snapshots that go by the clock; one that panicked is left out.
fn oldest(open: &[Open]) -> Option<&Arc<Mutex<Analysis>>> {
    open.iter().find(|open| open.is_by_schedule() && !open.sink.is_poisoned()).map(|open| &open.sink)
}

/// A panic of an analysis, whose lock is poisoned by it, must not end the recording.
fn guarded<T>(core: &Core, look: impl FnOnce() -> T) -> Option<T> {
    supervision::guarded(core, "the analysis of what is recorded broke off; the recording goes on", look)
}

/// A first look that knows the site as it is now.
pub(super) fn analysis(core: &Core) -> Analysis {
    let site = core.sites.latest();
    let endpoints = &site.topology.endpoints;
    let watches = endpoints.iter().map(Watch::of).collect();
    Analysis::new(core.settings.analysis(), watches, local_addresses(&site.topology))
        .with_expectations(site.configured().map(Expectation::of).collect())
        .with_heartbeats(core.heartbeats(&site.topology, endpoints))
        .that_looks_at("this snapshot")
}

/// What is or was wrong with an interface is told only while it is so.
fn told(state: capture::InterfaceState) -> MonitorInterface {
    let capture::InterfaceState { name, captured, problem, received, kernel_dropped } = state;
    MonitorInterface { name, captured, problem: problem.filter(|_| !captured), received, kernel_dropped }
}

/// The name of what the flight recorder saves at this time.
pub(super) fn name_of_trigger(unix_ns: i64) -> String {
    format!("{}{TRIGGERED}", name_of(UtcTime::from_unix_ns(unix_ns)))
}

/// A name that sorts by time and may stand in a uri and a path: `20261123T114500.000Z`.
fn name_of(time: UtcTime) -> String {
    time.to_millis().to_string().replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::monitor::testing;

    #[tokio::test]
    async fn an_analysis_that_panics_is_told_and_its_lock_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let core = testing::core(dir.path());
        let sink = Mutex::new(analysis(&core));
        assert!(guarded(&core, || lock(&sink).report()).is_some() && !sink.is_poisoned());
        let broke_off: Option<()> = guarded(&core, || {
            let _analysis = lock(&sink);
            panic!("a fault")
        });
        assert!(broke_off.is_none() && sink.is_poisoned());
        let told = lock(&core.monitor.view).last_problem().unwrap().to_owned();
        assert!(told.contains("the recording goes on") && told.contains("a fault"), "{told}");
    }

    #[test]
    fn names_sort_by_time_and_may_stand_in_a_uri() {
        let name = |ns| name_of(UtcTime::from_unix_ns(ns));
        assert_eq!(name(1_700_000_100_000_000_000), "20231114T221500.000Z");
        assert_eq!(name(1_700_000_100_000_000_000).len(), name(1_700_000_100_123_000_000).len());
        assert!(name(1_700_000_100_000_000_000) < name(1_700_000_100_001_000_000));
    }
}
