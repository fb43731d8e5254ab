//! A capture that does not end: windows are opened and closed on it while it goes on.

use super::{
    CaptureError, CaptureFile, ClosedWindow,
    intake::{Intake, IntakeOptions},
    live::LIBRARY,
    recorder::{DRAIN_MORE, panic_text},
    ring::{Ring, RingOptions},
    window::{Window, WindowProgress},
};
use crate::packet::PacketSink;
use nix::errno::Errno;
use std::{
    collections::BTreeMap,
    io::{PipeReader, PipeWriter, Read as _, Write as _, pipe},
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SendError, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How long the kernel may hold packets back: a monitor that runs for months would rather lose none in a stall than have them at once.
const HOLD: Duration = Duration::from_millis(50);
/// How long a window that is to be closed gets packets that the kernel held back.
const DRAIN: Duration = Duration::from_millis(120);

/// How often the state of the interfaces is written down for others to read.
const STATE_PERIOD: Duration = Duration::from_millis(500);

/// How long [`Continuous::open`] waits for the capture thread.
const OPEN_LIMIT: Duration = Duration::from_secs(1);

/// What a continuous capture records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContinuousOptions {
    /// Names of interfaces; one that is not there is waited for.
    pub interfaces: Vec<String>,
    /// BPF expression; empty records everything.
    pub filter: String,
    /// The most bytes that are kept of a packet.
    pub snaplen: u32,
    /// The kernel's buffer for each interface, in bytes.
    pub buffer_bytes: u32,
    /// For how long packets are remembered, so that a window can begin in the past. Zero: not at all.
    pub past: Duration,
    /// The most memory that remembered packets take; the oldest are forgotten first.
    pub past_max_bytes: usize,
}

/// A window to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowOptions {
    /// Where its file will be; until the window is finished it has `.partial` behind its name.
    pub file: PathBuf,
    /// The most bytes that the file may have. Packets beyond are analysed but not written.
    pub max_bytes: u64,
    /// The disk room that is never used: with less the file ends.
    pub min_free_bytes: u64,
    /// Whether it begins with the packets that are remembered.
    pub with_past: bool,
    /// Takes only the packets of these interfaces; empty: of all.
    pub interfaces: Vec<String>,
    /// BPF expression: takes only what it lets through; empty: all that is captured.
    pub filter: String,
}

/// How an interface is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceState {
    /// Its name.
    pub name: String,
    /// Whether packets can come now.
    pub captured: bool,
    /// What is wrong with it now.
    pub problem: Option<String>,
    /// Packets received since the capture began.
    pub received: u64,
    /// Packets that the kernel dropped because they were not read in time.
    pub kernel_dropped: u64,
}

/// How far the open windows are, by number: packets and bytes of file.
type Progress = BTreeMap<u64, WindowProgress>;

#[derive(Default)]
struct Shared {
    interfaces: Vec<InterfaceState>,
    windows: Progress,
    ended: Option<String>,
    /// When the capture thread wrote all this down.
    written_at: Option<Instant>,
}

/// What is done with the sink of a window that goes on at the moment when another one is closed; it is told how many packets the kernel has
/// dropped since that window began.
pub type AtSeam<S> = Box<dyn FnOnce(&mut S, u64) + Send>;

enum Command<S> {
    Open(u64, WindowOptions, Arc<Mutex<S>>, SyncSender<()>),
    Close(u64, Vec<(u64, AtSeam<S>)>, SyncSender<ClosedWindow>),
    Interfaces(Vec<String>),
    Filter(String),
    Past(Duration, usize),
}

/// The handle to a continuous capture. Dropping the last of its clones ends the capture and leaves the files of open windows unfinished:
/// close them first.
pub struct Continuous<S> {
    commands: Sender<Command<S>>,
    /// Wakes the capture thread; the thread ends when this end of the pipe is closed.
    bell: Arc<PipeWriter>,
    shared: Arc<Mutex<Shared>>,
    next_window: Arc<AtomicU64>,
}

impl<S> Clone for Continuous<S> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            bell: Arc::clone(&self.bell),
            shared: Arc::clone(&self.shared),
            next_window: Arc::clone(&self.next_window),
        }
    }
}

impl<S: PacketSink + 'static> Continuous<S> {
    /// Begins to capture in a thread of its own. Blocks for some milliseconds.
    ///
    /// The interfaces are those of the calling thread's network namespace. That one cannot be opened is no error: it is tried again
    /// every second, and [`interfaces`](Self::interfaces) tells.
    ///
    /// # Errors
    /// When this build cannot capture, or the thread cannot be started.
    pub fn start(options: ContinuousOptions) -> Result<Self, CaptureError> {
        LIBRARY.map_err(|reason| CaptureError::Unavailable(reason.into()))?;
        let ContinuousOptions { interfaces, filter, snaplen, buffer_bytes, past, past_max_bytes } = options;
        let intake = Intake::open(IntakeOptions { filter, snaplen, buffer_bytes, hold: HOLD }, &interfaces);
        let (called, bell) = pipe().map_err(CaptureError::Thread)?;
        let (commands, received) = channel();
        let shared = Arc::<Mutex<Shared>>::default();
        let mut thread = Thread {
            intake,
            ring: (!past.is_zero()).then(|| Ring::new(RingOptions { keep: past, max_bytes: past_max_bytes }, Instant::now())),
            windows: BTreeMap::new(),
            closing: Vec::new(),
            commands: received,
            called,
            shared: Arc::clone(&shared),
            state_at: Instant::now(),
        };
        thread.write_state(Instant::now());
        thread::Builder::new()
            .name("netdiag-monitor".into())
            .spawn(move || {
                let problem = match catch_unwind(AssertUnwindSafe(|| thread.record())) {
                    Ok(Ok(())) => return,
                    Ok(Err(errno)) => format!("the capture cannot wait for packets: {errno}"),
                    Err(panic) => format!("the capture broke off: {}", panic_text(&*panic)),
                };
                tracing::error!("{problem}");
                lock(&thread.shared).ended = Some(problem);
            })
            .map_err(CaptureError::Thread)?;
        Ok(Self { commands, bell: Arc::new(bell), shared, next_window: Arc::new(AtomicU64::new(1)) })
    }

    /// Opens a window and returns its number: `sink` and the file get every packet that comes after the return, and what the kernel
    /// held back before. Blocks until the capture thread has opened it: some milliseconds, a second at most.
    pub fn open(&self, options: WindowOptions, sink: Arc<Mutex<S>>) -> u64 {
        let number = self.next_window.fetch_add(1, Ordering::Relaxed);
        let (opened, is_open) = sync_channel(1);
        self.send(Command::Open(number, options, sink, opened));
        let _ = is_open.recv_timeout(OPEN_LIMIT);
        number
    }

    /// Closes a window; it gets what the kernel still holds, which takes some 120 ms. The receiver fails if there is no such window
    /// or the capture has ended. If the receiver is gone by then, the file is finished all the same, and the disk not waited for.
    pub fn close(&self, window: u64) -> Receiver<ClosedWindow> {
        self.close_at_seam(window, Vec::new())
    }

    /// The same, and at the moment of it does something with the sinks of other windows, which go on: between the last packet that is in
    /// both and the first that is in the others only.
    pub fn close_at_seam(&self, window: u64, others: Vec<(u64, AtSeam<S>)>) -> Receiver<ClosedWindow> {
        let (reply, closed) = sync_channel(1);
        self.send(Command::Close(window, others, reply));
        closed
    }

    /// Whether both are handles to one capture, so that their windows get the same packets.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Captures these interfaces from now on, and no others.
    pub fn set_interfaces(&self, interfaces: Vec<String>) {
        self.send(Command::Interfaces(interfaces));
    }

    /// Lets through what this BPF expression says from now on. Windows that are open go on, and what is remembered stays.
    pub fn set_filter(&self, filter: String) {
        self.send(Command::Filter(filter));
    }

    /// Remembers packets for so long, in so much memory, from now on; what is remembered stays as far as that goes.
    pub fn set_past(&self, past: Duration, past_max_bytes: usize) {
        self.send(Command::Past(past, past_max_bytes));
    }

    /// Since when the capture thread has given no sign of life: half a second at most, unless it hangs or has ended.
    pub fn quiet_for(&self) -> Duration {
        lock(&self.shared).written_at.map_or(Duration::ZERO, |written_at| written_at.elapsed())
    }

    /// How the interfaces are doing, at most half a second old.
    pub fn interfaces(&self) -> Vec<InterfaceState> {
        lock(&self.shared).interfaces.clone()
    }

    /// How far an open window is, at most half a second old.
    pub fn progress(&self, window: u64) -> Option<WindowProgress> {
        lock(&self.shared).windows.get(&window).copied()
    }

    /// Why the capture has ended by itself, if it has.
    pub fn ended(&self) -> Option<String> {
        lock(&self.shared).ended.clone()
    }

    fn send(&self, command: Command<S>) {
        // A thread that has ended tells it by `ended`.
        let _ = self.commands.send(command);
        let _ = (&*self.bell).write_all(&[1]);
    }
}

/// A window that is to be closed.
struct Closing<S> {
    at: Instant,
    window: u64,
    others: Vec<(u64, AtSeam<S>)>,
    reply: SyncSender<ClosedWindow>,
}

/// What the capture thread owns.
struct Thread<S> {
    intake: Intake,
    ring: Option<Ring>,
    windows: BTreeMap<u64, Window<S>>,
    closing: Vec<Closing<S>>,
    commands: Receiver<Command<S>>,
    called: PipeReader,
    shared: Arc<Mutex<Shared>>,
    state_at: Instant,
}

impl<S: PacketSink> Thread<S> {
    fn record(&mut self) -> Result<(), Errno> {
        let mut flush_at: Option<Instant> = None;
        loop {
            let now = Instant::now();
            let closing = self.closing.iter().map(|closing| closing.at).min();
            let wake_at = [Some(self.state_at), self.intake.retry_at(), flush_at, closing].into_iter().flatten().min();
            let timeout = wake_at.map(|wake_at| wake_at.saturating_duration_since(now));
            let ready = self.intake.wait(Some(self.called.as_fd()), timeout)?;
            let now = Instant::now();
            let is_drained = ready.lanes.is_empty();
            // First what was waiting: it belongs to the windows as they were.
            for (index, flags) in ready.lanes {
                let (windows, ring) = (&mut self.windows, &mut self.ring);
                self.intake.take(index, flags, |packet| {
                    windows.values_mut().for_each(|window| window.packet(&packet));
                    if let Some(ring) = ring {
                        ring.push(&packet, now);
                    }
                });
            }
            if ready.called && !self.obey() {
                return Ok(());
            }
            self.intake.retry(now);
            flush_at = None;
            for window in self.windows.values_mut() {
                window.describe(&self.intake);
                flush_at = flush_at.into_iter().chain(window.flush(now)).min();
            }
            self.close_due(now, is_drained);
            if self.state_at <= now {
                self.write_state(now);
                self.forget_interfaces(now);
            }
        }
    }

    /// Does what it was told. False: the handle is gone.
    fn obey(&mut self) -> bool {
        let mut rings = [0; 64];
        if matches!(self.called.read(&mut rings), Ok(0)) {
            return false;
        }
        let now = Instant::now();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Open(number, options, sink, opened) => {
                    let file = CaptureFile::create(&options.file, options.max_bytes, options.min_free_bytes);
                    let ring = self.ring.as_ref().filter(|_| options.with_past);
                    let past = ring.map_or(Duration::ZERO, |ring| ring.reach(now));
                    let mut window = Window::new(options, file, sink, &mut self.intake, (now, past));
                    if let Some(ring) = ring {
                        ring.replay(now, |packet| window.past_packet(packet));
                    }
                    self.windows.insert(number, window);
                    let _ = opened.send(());
                }
                Command::Close(window, others, reply) => self.closing.push(Closing { at: now + DRAIN, window, others, reply }),
                Command::Interfaces(interfaces) => self.intake.set_interfaces(&interfaces, now),
                Command::Filter(filter) => self.intake.set_filter(filter, now),
                Command::Past(past, _) if past.is_zero() => self.ring = None,
                Command::Past(keep, max_bytes) => {
                    let options = RingOptions { keep, max_bytes };
                    match &mut self.ring {
                        Some(ring) => ring.set_options(options, now),
                        None => self.ring = Some(Ring::new(options, now)),
                    }
                }
            }
        }
        true
    }

    /// Closes the windows that have had what came before the word to close.
    fn close_due(&mut self, now: Instant, is_drained: bool) {
        let is_due = |at: Instant| at <= now && (is_drained || at + DRAIN_MORE <= now);
        for Closing { window, others, reply, .. } in self.closing.extract_if(.., |closing| is_due(closing.at)) {
            let Some(window) = self.windows.remove(&window) else { continue };
            for (other, at_seam) in others {
                if let Some(other) = self.windows.get_mut(&other) {
                    other.at_seam(at_seam, &mut self.intake);
                }
            }
            if let Err(SendError(closed)) = reply.send(window.close(&mut self.intake)) {
                closed.finish(false);
            }
        }
    }

    /// Interfaces come and go, those of containers many times a day: what is not wanted, remembered or in an open window goes.
    fn forget_interfaces(&mut self, now: Instant) {
        let past = self.ring.as_ref().map_or(Duration::ZERO, Ring::keep);
        let is_past = |retired_at| now.saturating_duration_since(retired_at) > past;
        let windows = &self.windows;
        self.intake.forget(|lane, retired_at| is_past(retired_at) && !windows.values().any(|window| window.knows(&lane.name)));
    }

    fn write_state(&mut self, now: Instant) {
        let states = self.intake.lanes_mut().iter_mut().filter(|lane| lane.retired_at().is_none()).map(|lane| {
            let losses = lane.losses();
            InterfaceState {
                name: lane.name.clone(),
                captured: lane.live.is_some() && lane.lost_at.is_none(),
                problem: lane.problem().map(str::to_owned),
                received: losses.received,
                kernel_dropped: losses.kernel_dropped,
            }
        });
        let mut shared = lock(&self.shared);
        shared.interfaces = states.collect();
        shared.windows = self.windows.iter().map(|(number, window)| (*number, window.progress())).collect();
        shared.written_at = Some(now);
        self.state_at = now + STATE_PERIOD;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
