//! The monitor at work: one thread records snapshots that overlap, a second one judges each as it closes, a third one files them, and what
//! they know stands in one view that messages are answered from at once.
//!
//! The rules (when, whether suspect, what is kept) are plain functions of [`crate::monitor`] and [`crate::archive`].

mod errands;
mod filing;
mod heard;
mod recording;
mod series;
mod sharing;
mod shipping;
mod supervision;
#[cfg(test)]
mod testing;
mod triggering;
mod view;
mod whole;

pub(super) use series::Series;
pub(super) use shipping::Shipping;
pub(super) use view::View;

use super::{Settings, replies::Core, state_files, supervised::Pulse};
use crate::{
    analysis::{Analysis, catalogue},
    api::{
        ApiError, Endpoint, ErrorCode, MonitorSettings, MonitorState, Snapshot, SnapshotList, SnapshotQuery, SnapshotState, UtcTime,
    },
    archive::{Store, floor_bytes},
    capture::{Recording, RecordingOptions, check_filter},
    jobs::write_atomically,
};
use errands::{Errand, Errands};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sharing::Offer;
use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};
use triggering::Triggering;

/// So many commands may wait.
const MAX_COMMANDS: usize = 64;

/// How long one turn of a thread may take, in a disk's worst hour, before it counts as stuck: closing snapshots, judging one, and filing it.
const RECORDING_PATIENCE: Duration = Duration::from_secs(300);
const JUDGING_PATIENCE: Duration = Duration::from_secs(300);
const FILING_PATIENCE: Duration = Duration::from_secs(900);
/// The capture gives a sign of life twice a second.
const CAPTURE_PATIENCE: Duration = Duration::from_secs(60);

/// What the recording thread is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Whether it is on or how it records has changed: look at the view.
    Look,
    /// Save what the flight recorder remembers, as this snapshot.
    Trigger(Box<Snapshot>),
    /// The service ends.
    Stop,
}

/// What is remembered over a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Remembered {
    enabled: bool,
    settings: MonitorSettings,
}

/// The monitor as the rest of the service sees it.
pub(super) struct Monitor {
    pub view: Mutex<View>,
    pub series: Series,
    pub shipping: Shipping,
    /// The folders of the snapshots, once they are open.
    store: OnceLock<Store>,
    triggering: Triggering,
    commands: OnceLock<SyncSender<Command>>,
    errands: Errands,
    /// How it is set has not been written down yet.
    is_unwritten: AtomicBool,
    /// It has not begun, or broke off and waits to be begun again: nobody does what it is told.
    rests: AtomicBool,
    /// Who was heard, as it is to be written down.
    heard: Mutex<Option<Vec<u8>>>,
    /// Signs of life of the threads: of the one that records, of those that judge and file, and of the capture.
    recording: Pulse,
    judging: Pulse,
    filing: Pulse,
    capturing: Pulse,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The capture that is going on, while there is one that others may share.
    offer: Mutex<Option<Offer>>,
}

impl Monitor {
    /// As it was when the service ended, or else as the settings say. Blocks on the disk.
    pub fn new(all: &Settings) -> Self {
        let (path, enabled, settings) = (state_file(&all.state_dir), all.monitor_enabled, &all.monitor);
        let read = state_files::read(&path).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "how the monitor was set cannot be read; the settings file counts");
            None
        });
        let remembered = read.and_then(|json| match serde_json::from_slice::<Remembered>(&json) {
            Ok(remembered) if check_at_start(&remembered.settings).is_ok() => Some(remembered),
            // Of an earlier version, maybe: on it stays on.
            Ok(remembered) => {
                tracing::warn!(path = %path.display(), "how the monitor was set is not valid any more; the settings file counts");
                Some(Remembered { settings: settings.clone(), ..remembered })
            }
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "how the monitor was set cannot be read; the settings file counts");
                None
            }
        });
        let Remembered { enabled, settings } = remembered.unwrap_or_else(|| Remembered { enabled, settings: settings.clone() });
        Self {
            triggering: Triggering::new(&settings.triggers),
            view: Mutex::new(View::new(enabled, settings)),
            series: Series::new(all),
            shipping: Shipping::new(all),
            store: OnceLock::new(),
            commands: OnceLock::new(),
            errands: Errands::default(),
            is_unwritten: AtomicBool::new(false),
            rests: AtomicBool::new(true),
            heard: Mutex::default(),
            recording: Pulse::of_thread(),
            judging: Pulse::of_thread(),
            filing: Pulse::of_thread(),
            capturing: Pulse::of_thread(),
            thread: Mutex::new(None),
            offer: Mutex::new(None),
        }
    }

    /// Begins. The thread ends by [`Self::stop`].
    pub fn start(&self, core: &Arc<Core>) {
        let (commands, received) = sync_channel(MAX_COMMANDS);
        let _ = self.commands.set(commands);
        self.series.start(core);
        self.shipping.start(core);
        let core = Arc::downgrade(core);
        let started = thread::Builder::new().name("netdiag-snapshots".into()).spawn(move || supervision::run(&core, received));
        match started {
            Ok(thread) => *lock(&self.thread) = Some(thread),
            Err(error) => lock(&self.view).problem(format!("the monitor cannot be started: {error}")),
        }
    }

    /// Closes what is open, files it, and ends. Blocks until then.
    pub fn stop(&self) {
        if let Some(commands) = self.commands.get() {
            // A full queue is worked off first; the thread is alive or the send fails.
            let _ = commands.send(Command::Stop);
        }
        let thread = lock(&self.thread).take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            tracing::error!("the monitor had broken off");
        }
        self.series.stop();
        self.shipping.stop();
    }

    /// The signs of life of its threads, and how long one turn of each may take.
    pub fn pulses(&self) -> [(&'static str, Pulse, Duration); 4] {
        [
            ("the monitor's recording", self.recording.clone(), RECORDING_PATIENCE),
            ("the monitor's judging", self.judging.clone(), JUDGING_PATIENCE),
            ("the monitor's filing", self.filing.clone(), FILING_PATIENCE),
            ("the monitor's capture", self.capturing.clone(), CAPTURE_PATIENCE),
        ]
    }

    /// Something is wrong with it.
    pub fn problem(&self, problem: String) {
        lock(&self.view).problem(problem);
    }

    /// Switches it on or off.
    pub fn set_enabled(&self, enabled: bool) -> Result<(), ApiError> {
        lock(&self.view).set_enabled(enabled);
        self.look_anew()
    }

    /// Changes some of its settings.
    ///
    /// # Errors
    /// `bad_request` that names the field.
    pub fn change_settings(&self, changes: &Map<String, Value>) -> Result<(), ApiError> {
        loop {
            // Checked without the lock: it takes a while, and others ask meanwhile.
            let before = lock(&self.view).settings().clone();
            let settings = changed_monitor_settings(&before, changes)?;
            check(&settings)?;
            let mut view = lock(&self.view);
            if *view.settings() != before {
                continue;
            }
            if settings.triggers != before.triggers {
                self.triggering.set_rules(&settings.triggers);
            }
            view.set_settings(settings);
            break;
        }
        self.look_anew()
    }

    fn look_anew(&self) -> Result<(), ApiError> {
        self.is_unwritten.store(true, Ordering::Release);
        self.errands.call();
        match self.tell(Command::Look) {
            // It looks by itself within a second, too.
            Err(error) if error.code != ErrorCode::Busy => Err(error),
            _ => Ok(()),
        }
    }

    /// Pins a snapshot, or lets it go; gives it as it will be.
    pub fn pin(&self, snapshot_id: &str, pinned: bool) -> Result<Snapshot, ApiError> {
        self.snapshot(snapshot_id)?;
        self.have_done(Errand::Pin(snapshot_id.to_owned(), pinned))?;
        let pinned = lock(&self.view).pin(snapshot_id, pinned);
        // It may have been deleted just now.
        pinned.map_or_else(|| self.snapshot(snapshot_id), Ok)
    }

    /// Deletes a snapshot; gives it as it was.
    pub fn delete(&self, snapshot_id: &str) -> Result<Snapshot, ApiError> {
        let snapshot = self.snapshot(snapshot_id)?;
        if snapshot.pinned {
            return Err(ApiError::new(ErrorCode::Forbidden, format!("snapshot `{snapshot_id}` is pinned; unpin it first")));
        }
        // One that is open and has a problem is recorded, and waits to be filed or mended.
        let waits = snapshot.state == SnapshotState::Open && snapshot.problem.is_some();
        if matches!(snapshot.state, SnapshotState::Open | SnapshotState::Filing) && !waits {
            let message = format!("snapshot `{snapshot_id}` is being recorded; it can be deleted when it is filed");
            return Err(ApiError::new(ErrorCode::Forbidden, message));
        }
        self.have_done(Errand::Delete(snapshot_id.to_owned()))?;
        Ok(snapshot)
    }

    /// One snapshot.
    pub fn snapshot(&self, snapshot_id: &str) -> Result<Snapshot, ApiError> {
        lock(&self.view).snapshot(snapshot_id).ok_or_else(|| {
            ApiError::not_found(format!(
                "there is no snapshot `{snapshot_id}`; `get` the list `monitor/snapshots` for those there are"
            ))
        })
    }

    /// The newest snapshots, without their findings.
    pub fn list(&self, query: &SnapshotQuery) -> SnapshotList {
        lock(&self.view).list(query)
    }

    /// A recording of these endpoints as a window of the monitor's own capture, if that one has all of it. Blocks for some milliseconds.
    pub fn record(&self, endpoints: &[Endpoint], wanted: &RecordingOptions, sink: &Arc<Mutex<Analysis>>) -> Option<Recording> {
        lock(&self.offer).as_ref()?.record(endpoints, wanted, sink)
    }

    /// A sink has a snapshot. Blocks on the disk.
    fn shipped(&self, snapshot_id: &str, sink: &str) {
        // One that is not in the archive any more needs no note.
        let _ = self.store.get().map(|store| store.set_shipped(snapshot_id, sink));
        let mut view = lock(&self.view);
        if let Some(snapshot) = view.snapshot(snapshot_id) {
            view.put(shipping::with_sink(snapshot, sink));
        }
    }

    fn offer(&self, offer: Option<Offer>) {
        *lock(&self.offer) = offer;
    }

    /// Nothing is recorded any more, until it is begun again.
    fn ends_recording(&self) {
        lock(&self.view).state = MonitorState::Unavailable;
        self.set_has_capture(false);
        self.offer(None);
    }

    fn set_rests(&self, rests: bool) {
        self.rests.store(rests, Ordering::Release);
    }

    /// Has something done on the disk, soon.
    fn have_done(&self, errand: Errand) -> Result<(), ApiError> {
        if self.rests.load(Ordering::Acquire) {
            let why = lock(&self.view).last_problem().map_or_else(String::new, |problem| format!(": {problem}"));
            let message = format!("the monitor does not work just now and is begun again in some seconds; try again then{why}");
            return Err(ApiError::new(ErrorCode::Unavailable, message));
        }
        self.errands.ask(errand)
    }

    fn tell(&self, command: Command) -> Result<(), ApiError> {
        let unavailable = || ApiError::new(ErrorCode::Unavailable, "the monitor is not running");
        let sent = self.commands.get().ok_or_else(unavailable)?.try_send(command);
        sent.map_err(|error| match error {
            TrySendError::Full(_) => ApiError::new(ErrorCode::Busy, "the monitor has much to do; try again in a moment"),
            TrySendError::Disconnected(_) => unavailable(),
        })
    }

    /// Writes down how it is set, for the next start. Blocks on the disk.
    fn remember(&self, state_dir: &Path) {
        // First, for it may change meanwhile.
        self.is_unwritten.store(false, Ordering::Release);
        let remembered = lock(&self.view).remembered();
        let written = serde_json::to_vec(&remembered).map_err(|error| error.to_string());
        let written = written.and_then(|json| write_atomically(&state_file(state_dir), &json).map_err(|error| error.to_string()));
        if let Err(error) = written {
            self.is_unwritten.store(true, Ordering::Release);
            lock(&self.view).problem(format!("how the monitor is set could not be written: {error}"));
        }
    }

    /// Writes down what has changed and is to be known at the next start. Blocks on the disk.
    fn remember_what_waits(&self, state_dir: &Path) {
        if self.is_unwritten.load(Ordering::Acquire) {
            self.remember(state_dir);
        }
        self.remember_heard(state_dir);
    }
}

/// The settings of the monitor with some of them changed, as a message may. What the types cannot check is left to
/// [`MonitorSettings::validate`].
///
/// # Errors
/// `bad_request` that names the field.
pub fn changed_monitor_settings(settings: &MonitorSettings, changes: &Map<String, Value>) -> Result<MonitorSettings, ApiError> {
    let internal = |error: serde_json::Error| ApiError::new(ErrorCode::Internal, error.to_string());
    let mut all = match serde_json::to_value(settings).map_err(internal)? {
        Value::Object(all) => all,
        _ => Map::new(),
    };
    for (field, value) in changes {
        if !all.contains_key(field) {
            let known: Vec<&str> = all.keys().map(String::as_str).collect();
            let message = format!("there is no setting `{field}`; there are {}", known.join(", "));
            return Err(ApiError::bad_field(field, message));
        }
        let value = crate::api::undress(value.clone());
        let one = Map::from_iter([(field.clone(), value.clone())]);
        // One by one, so that the error is about the field.
        if let Err(error) = serde_json::from_value::<MonitorSettings>(Value::Object(one)) {
            return Err(ApiError::bad_field(field, format!("`{field}`: {error}")));
        }
        all.insert(field.clone(), value);
    }
    serde_json::from_value(Value::Object(all)).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// Checks what the types cannot, and what only those know who do it: that the filter compiles, and that there are findings of such codes.
/// A filter may name hosts, which are looked up: this may block.
///
/// # Errors
/// `bad_request` with the first field that cannot be.
pub(super) fn check(settings: &MonitorSettings) -> Result<(), ApiError> {
    settings.validate()?;
    let codes = settings.ignore.iter().map(|ignored| ("ignore", &ignored.code));
    let codes = codes.chain(settings.triggers.iter().filter_map(|rule| Some(("triggers", rule.finding.as_ref()?))));
    for (field, code) in codes {
        let is_known = match code.strip_suffix('*') {
            Some(beginning) => catalogue::ENTRIES.iter().any(|entry| entry.code.starts_with(beginning)),
            None => catalogue::explain(code).is_some(),
        };
        if !is_known {
            let message = format!(
                "`{field}` has the code `{code}`, and no finding has it; `netdiag explain` lists those there are, and one that ends in `*` \
                 is the beginning of codes"
            );
            return Err(ApiError::bad_field(field, message));
        }
    }
    if settings.filter.is_empty() {
        return Ok(());
    }
    check_filter(&settings.filter).map_err(|error| ApiError::bad_field("filter", error.to_string()))
}

fn state_file(state_dir: &Path) -> std::path::PathBuf {
    state_dir.join("monitor.json")
}

/// The disk room below `root` that is never used, in bytes.
fn floor(root: &Path, settings: &MonitorSettings) -> u64 {
    let disk_bytes = super::disk_bytes(root).unwrap_or(0);
    floor_bytes(settings.min_free_bytes, settings.min_free_percent, disk_bytes)
}

/// The wall clock, in nanoseconds since 1970.
fn wall_ns() -> i64 {
    UtcTime::from(SystemTime::now()).unix_ns()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks like [`check`], but a host in the filter that cannot be looked up yet is no reason not to start.
pub(super) fn check_at_start(settings: &MonitorSettings) -> Result<(), ApiError> {
    check(settings).or_else(|error| match error.field.as_deref() {
        Some("filter") if error.message.contains("unknown host") => Ok(()),
        _ => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_change_is_checked_as_a_whole_before_anything_changes() {
        let refused = |changes: Value| {
            let Value::Object(changes) = changes else { panic!() };
            let checked = changed_monitor_settings(&MonitorSettings::default(), &changes).and_then(|settings| check(&settings));
            checked.err().map(|error| (error.field.unwrap(), error.message))
        };
        for (changes, field, says) in [
            (json!({"ignore": [{"code": "modbus.exeptions"}]}), "ignore", "modbus.exeptions"),
            (json!({"ignore": [{"code": "modbus.x*"}]}), "ignore", "modbus.x*"),
            (json!({"triggers": [{"finding": "modbus.unansered"}]}), "triggers", "modbus.unansered"),
            (json!({"snapshot": 3}), "snapshot", "there is no setting"),
            (json!({"pre_s": 20, "interfaces": [""]}), "interfaces[0]", "1 to 15 bytes"),
        ] {
            let (named, message) = refused(changes.clone()).unwrap_or_else(|| panic!("{changes} is taken"));
            assert!(named == field && message.contains(says), "{changes}: {named}, {message}");
        }
        assert_eq!(refused(json!({"ignore": [{"code": "modbus.exceptions"}, {"code": "tcp.*"}, {"code": "*"}]})), None);
        assert_eq!(refused(json!({"triggers": [{"finding": "dnp3.*"}]})), None);
        if cfg!(feature = "libpcap") {
            let (field, message) = refused(json!({"filter": "this is no ( filter"})).unwrap();
            assert!(field == "filter" && message.contains("does not compile: "), "{message}");
            assert_eq!(refused(json!({"filter": "tcp port 502 or (vlan and tcp port 502)"})), None);
        }
    }

    fn all_but(settings: Value, field: &str) -> Map<String, Value> {
        let Value::Object(mut fields) = settings else { panic!() };
        fields.remove(field);
        fields
    }

    proptest! {
        #[test]
        fn a_change_of_any_kind_is_taken_or_refused_with_its_field(field: prop::sample::Index, text in "[-0-9a-z.\"{}\\[\\]:,]{0,12}") {
            let before = MonitorSettings::default();
            let Value::Object(all) = serde_json::to_value(&before).unwrap() else { panic!() };
            let field = all.keys().nth(field.index(all.len())).unwrap();
            let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            match changed_monitor_settings(&before, &Map::from_iter([(field.clone(), value)])) {
                Ok(changed) => {
                    let written = serde_json::to_value(&changed).unwrap();
                    prop_assert_eq!(serde_json::from_value::<MonitorSettings>(written.clone()).unwrap(), changed);
                    prop_assert_eq!(all_but(written, field), all_but(serde_json::to_value(&before).unwrap(), field));
                }
                Err(error) => prop_assert_eq!(error.field.as_ref(), Some(field)),
            }
        }

        #[test]
        fn what_was_remembered_and_is_damaged_is_no_panic(at: prop::sample::Index, byte: u8) {
            let remembered = Remembered { enabled: true, settings: MonitorSettings::default() };
            let mut json = serde_json::to_vec(&remembered).unwrap();
            let place = at.index(json.len());
            json[place] = byte;
            if let Ok(read) = serde_json::from_slice::<Remembered>(&json) {
                let written = serde_json::to_value(&read).unwrap();
                let again: Remembered = serde_json::from_value(written).unwrap();
                prop_assert_eq!((again.enabled, again.settings), (read.enabled, read.settings));
            }
        }
    }
}
