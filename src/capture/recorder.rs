//! The capture thread: it waits on all interfaces at once, and hands each packet to the file and to the sink.

use super::{
    RecordingOptions,
    file::{CaptureFile, FileReport},
    intake::Intake,
    lane::{Lane, Losses, Mark},
};
use crate::{
    api::{CaptureReport, InterfaceCapture},
    packet::{InterfaceStatistics, Packet, PacketSink},
};
use nix::{errno::Errno, poll::PollFlags};
use std::{
    any::Any,
    io::{self, PipeReader},
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// How long packets may wait in memory before they are written.
pub const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// How long the kernel may hold packets back. Every packet reaches the sink within about this time.
pub const HOLD: Duration = Duration::from_millis(20);
/// How long, once the word to stop has come, packets are taken that the kernel held back.
const DRAIN: Duration = Duration::from_millis(50);
/// How much longer what is here already is taken, should the thread not have had the processor.
pub const DRAIN_MORE: Duration = Duration::from_secs(1);

/// How far a recording is, for others to read while it goes on.
#[derive(Debug, Default)]
pub struct Progress {
    /// Packets captured.
    pub packets: AtomicU64,
    /// Bytes of file.
    pub bytes: AtomicU64,
    /// The file takes no more packets.
    pub file_ended: AtomicBool,
    /// Somebody waits for the end, so the disk is not waited for.
    pub hurry: AtomicBool,
}

/// What the capture thread owns.
pub struct Recorder {
    options: RecordingOptions,
    intake: Intake,
    /// Interfaces that are described in the file; none of its own recording is ever forgotten, so they have the numbers of the capture.
    described: usize,
    file: Option<CaptureFile>,
    file_problem: Option<String>,
    stopped: PipeReader,
    progress: Arc<Progress>,
    packets: u64,
    cut: u64,
    unwritten: u64,
}

impl Recorder {
    pub fn new(
        options: RecordingOptions,
        intake: Intake,
        file: io::Result<CaptureFile>,
        stopped: PipeReader,
        progress: Arc<Progress>,
    ) -> Self {
        let (file, file_problem) = match file {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(format!("there is no capture file, `{}` cannot be made: {error}", options.file.display()))),
        };
        let mut recorder =
            Self { options, intake, described: 0, file, file_problem, stopped, progress, packets: 0, cut: 0, unwritten: 0 };
        recorder.describe();
        recorder
    }

    /// Records until the word to stop comes, and reports. A panic on the way (of the sink, say) ends the recording, not the file.
    pub fn run<S: PacketSink>(mut self, sink: &Mutex<S>) -> CaptureReport {
        let problem = match catch_unwind(AssertUnwindSafe(|| self.record(sink))) {
            Ok(Ok(())) => None,
            Ok(Err(errno)) => Some(format!("the capture cannot wait for packets: {errno}")),
            Err(panic) => Some(format!("the capture broke off: {}", panic_text(&*panic))),
        };
        self.report(problem)
    }

    fn record<S: PacketSink>(&mut self, sink: &Mutex<S>) -> Result<(), Errno> {
        let mut flush_at: Option<Instant> = None;
        let mut stop_at: Option<Instant> = None;
        let mut is_drained = false;
        loop {
            let now = Instant::now();
            if stop_at.is_some_and(|stop_at| stop_at <= now && (is_drained || stop_at + DRAIN_MORE <= now)) {
                return Ok(());
            }
            let wake_at = self.intake.retry_at().into_iter().chain(flush_at).chain(stop_at).min();
            let call = stop_at.is_none().then(|| self.stopped.as_fd());
            let ready = self.intake.wait(call, wake_at.map(|wake_at| wake_at.saturating_duration_since(now)))?;
            if ready.called && stop_at.is_none() {
                stop_at = Some(Instant::now() + DRAIN);
            }
            is_drained = ready.lanes.is_empty();
            for (index, flags) in ready.lanes {
                self.take(index, flags, sink);
            }
            let now = Instant::now();
            if stop_at.is_none() {
                self.intake.retry(now);
                self.describe();
            }
            let Some(file) = &mut self.file else { continue };
            if file.wants_flush() || flush_at.is_some_and(|flush_at| flush_at <= now) {
                file.flush();
                flush_at = None;
            } else if flush_at.is_none() && file.pending() > 0 {
                flush_at = Some(now + FLUSH_AFTER);
            }
            self.progress.bytes.store(file.bytes(), Ordering::Relaxed);
            self.progress.file_ended.store(file.has_ended(), Ordering::Relaxed);
        }
    }

    /// Takes a batch of packets from an interface.
    fn take<S: PacketSink>(&mut self, index: usize, flags: PollFlags, sink: &Mutex<S>) {
        let (packets, cut, unwritten, file) = (&mut self.packets, &mut self.cut, &mut self.unwritten, &mut self.file);
        let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
        self.intake.take(index, flags, |packet| {
            *packets += 1;
            *cut += u64::from(packet.wire_len as usize > packet.data.len());
            let packet = Packet { number: *packets, ..packet };
            match file {
                Some(file) => file.packet(&packet),
                None => *unwritten += 1,
            }
            sink.packet(&packet);
        });
        drop(sink);
        self.progress.packets.store(self.packets, Ordering::Relaxed);
    }

    /// Describes in the file the interfaces that are new.
    fn describe(&mut self) {
        if let Some(file) = &mut self.file {
            self.intake.described().values().skip(self.described).for_each(|interface| file.interface(interface));
        }
        self.described = self.intake.described().len();
    }

    fn report(mut self, problem: Option<String>) -> CaptureReport {
        let losses: Vec<Losses> = self.intake.lanes_mut().iter_mut().map(Lane::losses).collect();
        let mut statistics = vec![InterfaceStatistics::default(); self.described];
        for (lane, losses) in self.intake.lanes().iter().zip(&losses) {
            if let Some(statistics) = lane.numbers.last().and_then(|number| statistics.get_mut(*number as usize)) {
                *statistics = losses.statistics();
            }
        }
        let unix_ns = now_ns();
        let file = match self.file.take() {
            Some(file) => file.finish(unix_ns, &statistics, !self.progress.hurry.load(Ordering::Acquire)),
            None => FileReport { not_written: self.unwritten, problem: self.file_problem.take(), ..FileReport::default() },
        };
        let written = |lane: &Lane| lane.numbers.iter().filter_map(|number| file.packets.get(*number as usize)).sum();
        let interfaces: Vec<_> = self
            .intake
            .lanes()
            .iter()
            .zip(&losses)
            .map(|(lane, losses)| InterfaceCapture {
                name: lane.name.clone(),
                packets: written(lane),
                kernel_dropped: losses.kernel_dropped,
                interface_dropped: losses.interface_dropped,
                error: lane.error_since(Mark::default()),
            })
            .collect();
        self.progress.bytes.store(file.bytes, Ordering::Relaxed);
        CaptureReport {
            file: file.path.map(|path| path.display().to_string()),
            file_bytes: file.bytes,
            packets: file.packets.iter().sum(),
            filter: Some(self.options.filter).filter(|filter| !filter.is_empty()),
            kernel_dropped: interfaces.iter().map(|interface| interface.kernel_dropped).sum(),
            interfaces,
            not_written: file.not_written,
            undecodable: 0,
            cut: self.cut,
            problem: problem.or(file.problem),
        }
    }
}

/// Nanoseconds since 1970.
pub fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}
