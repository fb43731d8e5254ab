//! The recording thread: one continuous capture, and on it the snapshots that open and close by the clock or by a trigger.

use super::{
    Command,
    filing::{Closed, Filing},
    finding_pattern, floor, lock,
    series::Reading,
    sharing::Offer,
};
use crate::{
    analysis::{Analysis, Expectation, HeartbeatWatch, Watch},
    api::{Event, Finding, MonitorInterface, MonitorSettings, MonitorState, Snapshot, SnapshotState, UtcTime},
    archive::{Store, may_record},
    capture::{self, ClosedWindow, Continuous, ContinuousOptions, WindowOptions},
    connectivity::capture_interfaces,
    monitor::{FindingPattern, Keep, OpenSnapshot, RateLimit, Recurrence, Schedule},
    service::{
        free_bytes,
        replies::Core,
        results::body_of,
        runners::{analysis_settings, local_addresses},
    },
};
use std::{
    sync::{
        Arc, Mutex, Weak,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant, SystemTime},
};

/// How long a closed window is waited for; it takes some 120 ms, and more when the disk is slow.
const CLOSE_PATIENCE: Duration = Duration::from_secs(20);
/// How long after a capture that failed another one is tried.
const RETRY: Duration = Duration::from_secs(5);
/// How long until it is looked again whether the configs have been read, at the start.
const BEFORE_THE_CONFIGS: Duration = Duration::from_millis(50);
/// How often the publication of what only counts upwards is made.
const PUBLISH_PERIOD: Duration = Duration::from_secs(5);
const HOUR: Duration = Duration::from_secs(3600);
/// How often it is looked whether a finding triggers, and at most what part of the time that may take.
const FINDINGS_PERIOD: Duration = Duration::from_secs(1);
const FINDINGS_SHARE: u32 = 50;
/// Ends the names of what the flight recorder saved.
pub(super) const TRIGGERED: &str = "_trigger";
/// Severities of the alarm log.
const STATUS: u8 = 2;
const ALARM: u8 = 3;

/// A snapshot that is open.
struct Open {
    snapshot: Snapshot,
    window: u64,
    sink: Arc<Mutex<Analysis>>,
    /// How long before it was opened it is to begin.
    past: Duration,
    /// The slot of one that goes by the clock; the end of one that was triggered.
    ends: Ends,
}

enum Ends {
    BySchedule(OpenSnapshot),
    At(Instant),
}

struct Recorder {
    core: Weak<Core>,
    store: Store,
    filings: SyncSender<Filing>,
    capture: Option<(ContinuousOptions, Continuous<Analysis>)>,
    open: Vec<Open>,
    /// The capture that another one has taken the place of, with its snapshots: it ends when the new one has snapshots.
    replaced: Option<(Continuous<Analysis>, Vec<Open>)>,
    started: Instant,
    triggers: RateLimit,
    /// The findings that have triggered and are still there.
    triggered: Recurrence,
    findings_at: Instant,
    full: bool,
    /// The filing thread has broken off.
    is_alone: bool,
    retry_at: Option<Instant>,
    published: Option<(MonitorState, Vec<(String, bool)>)>,
    published_at: Instant,
    reading: Reading,
}

/// Records until it is told to stop; then everything is closed and handed over.
pub(super) fn run(core: Weak<Core>, store: Store, commands: &Receiver<Command>, filings: SyncSender<Filing>) {
    let now = Instant::now();
    let mut recorder = Recorder {
        core,
        store,
        filings,
        capture: None,
        open: Vec::new(),
        replaced: None,
        started: now,
        triggers: RateLimit::default(),
        triggered: Recurrence::default(),
        findings_at: now,
        full: false,
        is_alone: false,
        retry_at: None,
        published: None,
        published_at: now,
        reading: Reading::default(),
    };
    loop {
        let Some(core) = recorder.core.upgrade() else { break };
        let wait = recorder.look(&core);
        drop(core);
        match commands.recv_timeout(wait) {
            Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(command) => recorder.obey(command),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    recorder.end_capture();
}

impl Recorder {
    fn obey(&mut self, command: Command) {
        match command {
            Command::Trigger(reason) => self.trigger(reason),
            Command::Pin(snapshot_id, pinned) => self.hand_over(Filing::Pin(snapshot_id, pinned)),
            Command::Delete(snapshot_id) => self.hand_over(Filing::Delete(snapshot_id)),
            // What has changed is looked at in each round.
            Command::Look | Command::Stop => {}
        }
    }

    /// The filing thread ends after this one. A long queue is waited for: packets go on being recorded meanwhile.
    fn hand_over(&mut self, filing: Filing) {
        self.is_alone |= self.filings.send(filing).is_err();
    }

    /// Looks at everything; gives how long to wait until the next look.
    fn look(&mut self, core: &Core) -> Duration {
        if core.monitor.has_changed() {
            self.hand_over(Filing::Remember);
        }
        let view = lock(&core.monitor.view);
        let (enabled, settings) = (view.is_enabled(), view.settings().clone());
        drop(view);
        let free = free_bytes(self.store.root()).unwrap_or(0);
        let (state, wait) = if enabled { self.record(core, &settings, free) } else { (self.off(), Duration::from_secs(1)) };
        let wait = wait.min(self.reading.look(&core.monitor.series, oldest(&self.open)));
        self.tell(core, state, free);
        wait
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
            let severity = if has_room { STATUS } else { ALARM };
            core.post(&Event { source: core.settings.process_name.clone(), message: message.clone(), severity });
            let mut view = lock(&core.monitor.view);
            if has_room { view.well() } else { view.problem(message) }
        }
        if self.full {
            self.end_capture();
            return (MonitorState::Paused, second);
        }
        if self.is_alone {
            lock(&core.monitor.view)
                .problem("snapshots are not filed any more; please report this, and start netdiag anew".to_owned());
            self.end_capture();
            return (MonitorState::Unavailable, second);
        }
        if let Err(state) = self.capture(core, settings) {
            return (state, if core.sites.is_read() { second } else { BEFORE_THE_CONFIGS });
        }
        let wait = self.schedule(core, settings);
        self.end_replaced();
        self.look_for_findings(settings);
        let captured = self.capture.as_ref().is_some_and(|(_, capture)| capture.interfaces().iter().any(|one| one.captured));
        (if captured { MonitorState::Recording } else { MonitorState::Paused }, wait)
    }

    /// Sees to it that what is to be captured is captured.
    fn capture(&mut self, core: &Core, settings: &MonitorSettings) -> Result<(), MonitorState> {
        if let Some(problem) = self.capture.as_ref().and_then(|(_, capture)| capture.ended()) {
            lock(&core.monitor.view).problem(problem);
            self.end_capture();
            self.retry_at = Some(Instant::now() + RETRY);
        }
        if !core.sites.is_read() {
            return Err(MonitorState::Paused);
        }
        if self.retry_at.is_some_and(|retry_at| Instant::now() < retry_at) {
            return Err(MonitorState::Paused);
        }
        let options = options(core, settings);
        if options.interfaces.is_empty() {
            lock(&core.monitor.view)
                .problem("no interface leads to any endpoint of the topology; name some in the settings".to_owned());
            self.end_capture();
            return Err(MonitorState::Paused);
        }
        match &mut self.capture {
            Some((running, _)) if *running == options => return Ok(()),
            Some((running, capture))
                if (ContinuousOptions { interfaces: running.interfaces.clone(), ..options.clone() }) == *running =>
            {
                capture.set_interfaces(options.interfaces.clone());
                *running = options;
                return Ok(());
            }
            _ => {}
        }
        match Continuous::start(options.clone()) {
            Ok(capture) => {
                let endpoints = core.sites.latest().topology.endpoints.clone();
                let offer = Offer { capture: capture.clone(), options: options.clone(), endpoints };
                // What somebody's own filter lets through cannot be told.
                core.monitor.offer(settings.filter.is_empty().then_some(offer));
                let open = std::mem::take(&mut self.open);
                self.replaced = self.capture.replace((options, capture)).map(|(_, former)| (former, open));
                self.retry_at = None;
                lock(&core.monitor.view).well();
                Ok(())
            }
            Err(error) => {
                self.end_capture();
                lock(&core.monitor.view).problem(error.to_string());
                self.retry_at = Some(Instant::now() + RETRY);
                Err(MonitorState::Unavailable)
            }
        }
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
            self.open(core, settings, &name, None, Ends::BySchedule(OpenSnapshot { slot, opened }));
        }
        for index in due.into_iter().rev() {
            self.close(index);
        }
        let triggered = self.open.iter().filter_map(|open| if let Ends::At(at) = open.ends { Some(at) } else { None }).min();
        let until = triggered.map_or(step.wait, |at| at.saturating_duration_since(Instant::now()));
        // An overlap or a slot of nothing must not become a busy loop.
        step.wait.min(until).max(Duration::from_millis(5))
    }

    /// Looks whether what is being recorded holds a finding that triggers. A finding triggers once, and again when it had been gone.
    fn look_for_findings(&mut self, settings: &MonitorSettings) {
        let patterns: Vec<FindingPattern> = settings.triggers.iter().filter_map(finding_pattern).collect();
        let begun = Instant::now();
        if patterns.is_empty() || begun < self.findings_at {
            return;
        }
        let by_schedule = self.open.iter().find(|open| matches!(open.ends, Ends::BySchedule(_)));
        let Some(report) = by_schedule.map(|open| lock(&open.sink).report()) else { return };
        let now = Instant::now();
        self.findings_at = now + FINDINGS_PERIOD.max((now - begun) * FINDINGS_SHARE);
        let meant = |finding: &&Finding| patterns.iter().any(|pattern| pattern.matches(finding));
        let meant: Vec<&Finding> = report.findings.iter().filter(meant).collect();
        let Some(worst) = meant.first() else { return };
        let reason = format!("{}: {}", worst.code, worst.message);
        let gone_after = settings.snapshot_s.0 * 2 + FINDINGS_PERIOD * 60;
        if self.triggered.take(&meant, now - self.started, Duration::MAX, gone_after) == Keep::New {
            self.trigger(reason);
        }
    }

    fn trigger(&mut self, reason: String) {
        let Some(core) = self.core.upgrade() else { return };
        let settings = lock(&core.monitor.view).settings().clone();
        let now = Instant::now();
        if self.capture.is_none() {
            tracing::info!(reason, "a trigger, while nothing is recorded");
        } else if !self.triggers.admit(now.saturating_duration_since(self.started), settings.triggers_per_hour as usize, HOUR) {
            lock(&core.monitor.view).problem(format!("a trigger was not followed, there were too many within the hour: {reason}"));
        } else {
            let name = format!("{}{TRIGGERED}", name_of(UtcTime::from_unix_ns(wall_ns())));
            let ends = Ends::At(now + Duration::from_secs(settings.post_s));
            self.open(&core, &settings, &name, Some(reason), ends);
        }
    }

    fn open(&mut self, core: &Core, settings: &MonitorSettings, name: &str, trigger: Option<String>, ends: Ends) {
        let Some((options, capture)) = &mut self.capture else { return };
        // A clock that was set back comes to the same slot again.
        let is_free = |name: &String| lock(&core.monitor.view).snapshot(name).is_none();
        let again = (2..10_000).map(|number| format!("{name}_{number}"));
        let Some(snapshot_id) = std::iter::once(name.to_owned()).chain(again).find(is_free) else { return };
        let analysis = analysis(core);
        let sink = Arc::new(Mutex::new(analysis));
        let past = if trigger.is_some() { options.past } else { Duration::ZERO };
        let file = self.store.recording(&snapshot_id);
        let window = WindowOptions {
            file: file.clone(),
            max_bytes: settings.snapshot_max_bytes,
            min_free_bytes: floor(self.store.root(), settings),
            with_past: !past.is_zero(),
            interfaces: Vec::new(),
            filter: String::new(),
        };
        let opened_ns = wall_ns().saturating_sub(i64::try_from(past.as_nanos()).unwrap_or(0));
        let snapshot = Snapshot {
            snapshot_id,
            state: SnapshotState::Open,
            opened_at: UtcTime::from_unix_ns(opened_ns).to_millis(),
            closed_at: None,
            verdict: None,
            text: "it is being recorded".to_owned(),
            trigger,
            neighbour_of: None,
            file: Some(file.display().to_string()),
            disk_bytes: 0,
            packets: 0,
            kernel_dropped: 0,
            interfaces: Vec::new(),
            findings: Vec::new(),
            problem: None,
            pinned: false,
            shipped_to: Vec::new(),
        };
        let window = capture.open(window, Arc::clone(&sink));
        if let Some(reason) = &snapshot.trigger
            && let Err(error) = self.store.set_reason(&snapshot.snapshot_id, reason)
        {
            tracing::warn!(%error, "should netdiag be killed now, the reason of the snapshot is lost");
        }
        core.publish(&format!("monitor/snapshots/{}", snapshot.snapshot_id), body_of(&snapshot));
        lock(&core.monitor.view).put(snapshot.clone());
        self.open.push(Open { snapshot, window, sink, past, ends });
    }

    /// Closes an open snapshot and hands it over to be judged and filed.
    fn close(&mut self, index: usize) {
        let open = self.open.remove(index);
        self.reading.closing(&open.sink, oldest(&self.open));
        let window = self.capture.as_mut().and_then(|(_, capture)| capture.close(open.window).recv_timeout(CLOSE_PATIENCE).ok());
        self.closed(open, window);
    }

    fn closed(&mut self, open: Open, window: Option<ClosedWindow>) {
        let Open { mut snapshot, sink, past, .. } = open;
        // Less may have been remembered.
        let missing = past.saturating_sub(window.as_ref().map_or(past, ClosedWindow::past));
        let missing_ns = i64::try_from(missing.as_nanos()).unwrap_or(i64::MAX);
        snapshot.opened_at = UtcTime::from_unix_ns(snapshot.opened_at.unix_ns().saturating_add(missing_ns)).to_millis();
        snapshot.closed_at = Some(UtcTime::from_unix_ns(wall_ns()).to_millis());
        self.hand_over(Filing::Closed(Box::new(Closed { snapshot, window, sink })));
    }

    fn end_replaced(&mut self) {
        let Some((capture, open)) = self.replaced.take() else { return };
        for open in open {
            self.reading.closing(&open.sink, oldest(&self.open));
            let window = capture.close(open.window).recv_timeout(CLOSE_PATIENCE).ok();
            self.closed(open, window);
        }
    }

    /// Closes what is open, and then the capture.
    fn end_capture(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.monitor.offer(None);
        }
        self.end_replaced();
        while !self.open.is_empty() {
            self.close(0);
        }
        self.capture = None;
    }

    /// Brings the view up to date, and publishes when more has changed than a count.
    fn tell(&mut self, core: &Core, state: MonitorState, free: u64) {
        let interfaces: Vec<MonitorInterface> =
            self.capture.iter().flat_map(|(_, capture)| capture.interfaces()).map(told).collect();
        let progress: Vec<(String, u64, u64)> = self
            .open
            .iter()
            .filter_map(|open| {
                let progress = self.capture.as_ref()?.1.progress(open.window)?;
                if progress.file_ended {
                    let id = &open.snapshot.snapshot_id;
                    lock(&core.monitor.view)
                        .problem(format!("the file of {id} has ended early; what comes is analysed and not written"));
                }
                Some((open.snapshot.snapshot_id.clone(), progress.packets, progress.bytes))
            })
            .collect();
        let captured: Vec<(String, bool)> = interfaces.iter().map(|one| (one.name.clone(), one.captured)).collect();
        let mut view = lock(&core.monitor.view);
        for (snapshot_id, packets, bytes) in progress {
            if let Some(snapshot) = view.snapshot(&snapshot_id) {
                view.put(Snapshot { packets, disk_bytes: bytes, ..snapshot });
            }
        }
        let lost = interfaces.iter().find(|one| !one.captured);
        if let Some(lost) = lost {
            view.problem(format!("{} is not recorded: {}", lost.name, lost.problem.as_deref().unwrap_or("it cannot be opened")));
        }
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

/// The analysis of the oldest of the snapshots that go by the clock.
fn oldest(open: &[Open]) -> Option<&Arc<Mutex<Analysis>>> {
    open.iter().find(|open| matches!(open.ends, Ends::BySchedule(_))).map(|open| &open.sink)
}

/// A first look that knows the site as it is now.
pub(super) fn analysis(core: &Core) -> Analysis {
    let site = core.sites.latest();
    let endpoints = &site.topology.endpoints;
    let watches = endpoints.iter().map(Watch::of).collect();
    Analysis::new(analysis_settings(&core.settings), watches, local_addresses(&site.topology))
        .with_expectations(site.configured().map(Expectation::of).collect())
        .with_heartbeats(HeartbeatWatch::of_topology(&site.topology.heartbeats, endpoints))
}

fn told(state: capture::InterfaceState) -> MonitorInterface {
    let capture::InterfaceState { name, captured, problem, received, kernel_dropped } = state;
    MonitorInterface { name, captured, problem, received, kernel_dropped }
}

fn options(core: &Core, settings: &MonitorSettings) -> ContinuousOptions {
    let site = core.sites.latest();
    let endpoints = &site.topology.endpoints;
    ContinuousOptions {
        interfaces: match settings.interfaces.is_empty() {
            true => capture_interfaces(endpoints, &site.topology.interfaces),
            false => settings.interfaces.clone(),
        },
        filter: if settings.filter.is_empty() { capture::endpoints_filter(endpoints) } else { settings.filter.clone() },
        snaplen: settings.snaplen,
        buffer_bytes: settings.buffer_bytes,
        past: Duration::from_secs(settings.pre_s),
        past_max_bytes: usize::try_from(settings.pre_max_bytes).unwrap_or(usize::MAX),
    }
}

fn wall_ns() -> i64 {
    UtcTime::from(SystemTime::now()).unix_ns()
}

/// A name that sorts by time and may stand in a uri and a path: `20261123T114500.000Z`.
fn name_of(time: UtcTime) -> String {
    time.to_millis().to_string().replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_may_stand_in_a_uri() {
        let name = |ns| name_of(UtcTime::from_unix_ns(ns));
        assert_eq!(name(1_700_000_100_000_000_000), "20231114T221500.000Z");
        assert_eq!(name(1_700_000_100_000_000_000).len(), name(1_700_000_100_123_000_000).len());
        assert!(name(1_700_000_100_000_000_000) < name(1_700_000_100_001_000_000));
    }
}
