//! A recording, from the outside: started, looked at, stopped.

use super::{
    CaptureError, Continuous, OpenError, WindowOptions, WindowProgress,
    file::CaptureFile,
    intake::{Intake, IntakeOptions},
    live::LIBRARY,
    recorder::{HOLD, Progress, Recorder},
};
use crate::{api::CaptureReport, packet::PacketSink};
use std::{
    fmt,
    io::{PipeWriter, pipe},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::Duration,
};

/// How long [`Recording::stop`] waits for the capture thread before it reports without it.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What to record, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingOptions {
    /// Names of interfaces.
    pub interfaces: Vec<String>,
    /// BPF expression; empty records everything.
    pub filter: String,
    /// The most bytes that are kept of a packet.
    pub snaplen: u32,
    /// The kernel's buffer for each interface, in bytes.
    pub buffer_bytes: u32,
    /// Where the file will be; until the recording ends it has `.partial` behind its name.
    pub file: PathBuf,
    /// The most bytes that the file may have. Packets beyond are analysed but not written.
    pub max_bytes: u64,
    /// The bytes that stay free on the file's disk; when there are fewer, the file ends as at its limit.
    pub min_free_bytes: u64,
}

impl RecordingOptions {
    /// Whole packets, 8 MiB of buffer for each interface, at most 256 MiB of file, and the disk may be filled.
    pub fn new(interfaces: Vec<String>, filter: String, file: PathBuf) -> Self {
        Self { interfaces, filter, snaplen: 262_144, buffer_bytes: 8 << 20, file, max_bytes: 256 << 20, min_free_bytes: 0 }
    }
}

/// A recording that is going on: a capture of its own, or a window of a continuous one. Dropping it ends it, without waiting and
/// without a report.
pub struct Recording(Box<dyn Running>);

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

trait Running: Send {
    fn progress(&self) -> (u64, u64);
    fn file_has_ended(&self) -> bool;
    fn stop(self: Box<Self>, sync: bool) -> CaptureReport;
}

/// A capture that begins and ends with the recording.
struct OfItsOwn {
    /// The capture thread ends when this end of the pipe is closed.
    stop: PipeWriter,
    report: Receiver<CaptureReport>,
    progress: Arc<Progress>,
    options: RecordingOptions,
}

/// A window of a capture that was there before and goes on after.
struct Within<S: PacketSink + 'static> {
    capture: Continuous<S>,
    window: u64,
    filter: String,
    is_closed: bool,
}

/// Begins to record, and returns when every interface is captured or what is wrong with it is noted. Blocks
/// for some milliseconds.
///
/// The interfaces are those of the calling thread's network namespace.
///
/// # Errors
/// When no interface can be captured, or the thread cannot be started.
pub fn start<S: PacketSink + 'static>(options: RecordingOptions, sink: Arc<Mutex<S>>) -> Result<Recording, CaptureError> {
    LIBRARY.map_err(|reason| CaptureError::Unavailable(reason.into()))?;
    if options.interfaces.is_empty() {
        return Err(CaptureError::NoInterface);
    }
    let RecordingOptions { snaplen, buffer_bytes, .. } = options;
    let how = IntakeOptions { filter: options.filter.clone(), snaplen, buffer_bytes, hold: HOLD };
    let intake = Intake::open(how, &options.interfaces);
    if intake.lanes().iter().all(|lane| lane.live.is_none()) {
        return Err(no_interface(&intake));
    }

    let (stopped, stop) = pipe().map_err(CaptureError::Thread)?;
    let (report_sender, report) = sync_channel(1);
    let progress = Arc::new(Progress::default());
    let recorder = Recorder::new(
        options.clone(),
        intake,
        CaptureFile::create(&options.file, options.max_bytes, options.min_free_bytes),
        stopped,
        Arc::clone(&progress),
    );
    thread::Builder::new()
        .name("netdiag-capture".into())
        .spawn(move || {
            let _ = report_sender.send(recorder.run(&sink));
        })
        .map_err(CaptureError::Thread)?;
    Ok(Recording(Box::new(OfItsOwn { stop, report, progress, options })))
}

/// The error when no interface could be opened; a missing right is the same for all and told once.
fn no_interface(intake: &Intake) -> CaptureError {
    let errors: Vec<_> =
        intake.lanes().iter().filter_map(|lane| lane.open_error.clone().map(|error| (lane.name.clone(), error))).collect();
    match errors.iter().find_map(|(_, error)| if let OpenError::NoRight(reason) = error { Some(reason) } else { None }) {
        Some(reason) => CaptureError::Unavailable(reason.clone()),
        None => CaptureError::Interfaces(errors),
    }
}

impl Recording {
    /// Records as a window of a capture that is going on; the capture does not end before the recording. What `options` say of the
    /// snapshot length and the buffer is as it is there. Blocks for some milliseconds.
    pub fn within<S: PacketSink + 'static>(capture: Continuous<S>, options: RecordingOptions, sink: Arc<Mutex<S>>) -> Self {
        let RecordingOptions { interfaces, filter, file, max_bytes, min_free_bytes, .. } = options;
        let window = WindowOptions { file, max_bytes, min_free_bytes, with_past: false, interfaces, filter: filter.clone() };
        let window = capture.open(window, sink);
        Self(Box::new(Within { capture, window, filter, is_closed: false }))
    }

    /// Packets captured and bytes of file so far.
    pub fn progress(&self) -> (u64, u64) {
        self.0.progress()
    }

    /// Whether the file takes no more packets: its limit is reached, or the disk is full or failed. The report says which.
    pub fn file_has_ended(&self) -> bool {
        self.0.file_has_ended()
    }

    /// [`Recording::stop`] for those who cannot wait for the disk: the file is whole, but a power cut within moments may lose it.
    pub fn stop_quickly(self) -> CaptureReport {
        self.0.stop(false)
    }

    /// Ends the recording and tells what became of it. What the kernel still holds is taken first. Blocks, normally well under
    /// 200 ms and never longer than a few seconds, even if the capture thread is stuck.
    pub fn stop(self) -> CaptureReport {
        self.0.stop(true)
    }
}

impl Running for OfItsOwn {
    fn progress(&self) -> (u64, u64) {
        (self.progress.packets.load(Ordering::Relaxed), self.progress.bytes.load(Ordering::Relaxed))
    }

    fn file_has_ended(&self) -> bool {
        self.progress.file_ended.load(Ordering::Relaxed)
    }

    fn stop(self: Box<Self>, sync: bool) -> CaptureReport {
        let Self { stop, report, progress, options } = *self;
        progress.hurry.store(!sync, Ordering::Release);
        drop(stop);
        let problem = match report.recv_timeout(STOP_LIMIT) {
            Ok(report) => return report,
            Err(RecvTimeoutError::Timeout) => format!("the capture thread did not end within {} s", STOP_LIMIT.as_secs()),
            Err(RecvTimeoutError::Disconnected) => "the capture thread ended without a report".into(),
        };
        tracing::error!(file = %options.file.display(), "{problem}");
        CaptureReport {
            packets: progress.packets.load(Ordering::Relaxed),
            file_bytes: progress.bytes.load(Ordering::Relaxed),
            filter: Some(options.filter),
            problem: Some(problem),
            ..CaptureReport::default()
        }
    }
}

impl<S: PacketSink + 'static> Within<S> {
    fn now(&self) -> WindowProgress {
        self.capture.progress(self.window).unwrap_or_default()
    }
}

impl<S: PacketSink + 'static> Running for Within<S> {
    fn progress(&self) -> (u64, u64) {
        let WindowProgress { packets, bytes, .. } = self.now();
        (packets, bytes)
    }

    fn file_has_ended(&self) -> bool {
        self.now().file_ended
    }

    fn stop(mut self: Box<Self>, sync: bool) -> CaptureReport {
        let closed = self.capture.close(self.window);
        self.is_closed = true;
        if let Ok(closed) = closed.recv_timeout(STOP_LIMIT) {
            return closed.finish(sync);
        }
        let WindowProgress { packets, bytes, .. } = self.now();
        let problem = self.capture.ended().unwrap_or_else(|| "the capture thread did not close the file in time".into());
        CaptureReport {
            packets,
            file_bytes: bytes,
            filter: Some(self.filter.clone()),
            problem: Some(problem),
            ..CaptureReport::default()
        }
    }
}

impl<S: PacketSink + 'static> Drop for Within<S> {
    fn drop(&mut self) {
        if !self.is_closed {
            drop(self.capture.close(self.window));
        }
    }
}
