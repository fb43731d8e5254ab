//! The capture thread: it waits on all interfaces at once, and hands each packet to the file and to the sink.

use super::{
    RecordingOptions,
    error::OpenSettings,
    file::{CaptureFile, FileReport},
    lane::{Lane, RETRY_AFTER, is_up},
    live::Live,
};
use crate::{
    api::{CaptureReport, InterfaceCapture},
    packet::{InterfaceDescription, InterfaceStatistics, Packet, PacketSink},
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
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

/// Packets that are handed over before the sink's lock is given up and the next interface has its turn.
const BATCH: usize = 256;
/// How long packets may wait in memory before they are written.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// How long, once the word to stop has come, packets are taken that the kernel held back: longer than it may (`live::HOLD`).
const DRAIN: Duration = Duration::from_millis(50);
/// How often in a row an interface may signal an error without telling one.
const MUTE_ERRORS: u32 = 3;

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
    lanes: Vec<Lane>,
    /// The link type of each interface in the file, by number.
    file_link_types: Vec<crate::packet::LinkType>,
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
        lanes: Vec<Lane>,
        file: io::Result<CaptureFile>,
        stopped: PipeReader,
        progress: Arc<Progress>,
    ) -> Self {
        let (file, file_problem) = match file {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(format!("there is no capture file, `{}` cannot be made: {error}", options.file.display()))),
        };
        let mut recorder = Self {
            options,
            lanes,
            file_link_types: Vec::new(),
            file,
            file_problem,
            stopped,
            progress,
            packets: 0,
            cut: 0,
            unwritten: 0,
        };
        for index in 0..recorder.lanes.len() {
            recorder.describe(index);
        }
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
        loop {
            let now = Instant::now();
            if stop_at.is_some_and(|stop_at| stop_at <= now) {
                return Ok(());
            }
            let retries = self.lanes.iter().filter_map(|lane| lane.retry_at);
            let wake_at = retries.chain(flush_at).chain(stop_at).min();
            let ready = self.wait(wake_at.map(|wake_at| wake_at.saturating_duration_since(now)), stop_at.is_some())?;
            if ready.stopped && stop_at.is_none() {
                stop_at = Some(Instant::now() + DRAIN);
            }
            for (index, flags) in ready.lanes {
                self.take(index, flags, sink);
            }
            let now = Instant::now();
            if stop_at.is_none() {
                self.retry(now);
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

    /// Sleeps until there are packets, or the word to stop, or the time is over.
    fn wait(&self, timeout: Option<Duration>, stopping: bool) -> Result<Ready, Errno> {
        let mut indices = Vec::with_capacity(self.lanes.len());
        let mut descriptors = Vec::with_capacity(self.lanes.len() + 1);
        for (index, lane) in self.lanes.iter().enumerate() {
            if let Some(live) = &lane.live {
                indices.push(index);
                descriptors.push(PollFd::new(live.as_fd(), PollFlags::POLLIN));
            }
        }
        if !stopping {
            descriptors.push(PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN));
        }
        // Rounded up, or the last part of a millisecond would be spent without sleep.
        let timeout =
            timeout.map_or(PollTimeout::NONE, |timeout| PollTimeout::try_from(timeout.as_millis() + 1).unwrap_or(PollTimeout::MAX));
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let mut flags = descriptors.iter().map(|descriptor| descriptor.revents().unwrap_or(PollFlags::empty()));
        let lanes = indices.into_iter().zip(flags.by_ref()).filter(|(_, flags)| !flags.is_empty()).collect();
        Ok(Ready { lanes, stopped: flags.next().is_some_and(|flags| !flags.is_empty()) })
    }

    /// Takes a batch of packets from an interface.
    fn take<S: PacketSink>(&mut self, index: usize, flags: PollFlags, sink: &Mutex<S>) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let (Some(live), Some(&interface)) = (&mut lane.live, lane.file_interfaces.last()) else { return };
        let link_type = live.link_type();
        let (packets, cut, file) = (&mut self.packets, &mut self.cut, &mut self.file);
        let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = live.dispatch(BATCH, |unix_ns, wire_len, data| {
            *packets += 1;
            *cut += u64::from(wire_len as usize > data.len());
            let packet = Packet { number: *packets, unix_ns, interface, link_type, wire_len, data };
            match file {
                Some(file) => file.packet(&packet),
                None => self.unwritten += 1,
            }
            sink.packet(&packet);
        });
        drop(sink);
        self.progress.packets.store(self.packets, Ordering::Relaxed);
        match taken {
            Err(reason) => lane.close(reason),
            Ok(taken) if flags.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL) => {
                lane.went_down(Instant::now());
                lane.mute_errors = if taken == 0 { lane.mute_errors + 1 } else { 0 };
                if lane.mute_errors >= MUTE_ERRORS {
                    lane.close("the interface went down or is gone".into());
                }
            }
            Ok(taken) => {
                lane.mute_errors = 0;
                if taken > 0 && lane.lost_at.is_some() {
                    lane.came_back(Instant::now());
                }
            }
        }
    }

    /// Looks again at the interfaces that are due: those that are open and down, and those that could not be opened.
    fn retry(&mut self, now: Instant) {
        for index in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(index).filter(|lane| lane.retry_at.is_some_and(|retry_at| retry_at <= now)) else {
                continue;
            };
            if lane.live.is_some() {
                if is_up(&lane.name) {
                    lane.came_back(now)
                } else {
                    lane.retry_at = Some(now + RETRY_AFTER)
                }
                continue;
            }
            let settings = OpenSettings {
                filter: &self.options.filter,
                snaplen: self.options.snaplen,
                buffer_bytes: self.options.buffer_bytes,
            };
            match Live::open(&lane.name, &settings) {
                Ok(live) => {
                    lane.live = Some(live);
                    lane.came_back(now);
                    self.describe(index);
                }
                Err(error) => lane.retry_at = error.may_pass().then(|| now + RETRY_AFTER),
            }
        }
    }

    /// Gives an open interface a number in the file, unless it has one that fits.
    fn describe(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let Some(link_type) = lane.live.as_ref().map(Live::link_type) else { return };
        let known = lane.file_interfaces.last().and_then(|number| self.file_link_types.get(*number as usize));
        if known == Some(&link_type) {
            return;
        }
        lane.file_interfaces.push(u32::try_from(self.file_link_types.len()).unwrap_or(u32::MAX));
        self.file_link_types.push(link_type);
        if let Some(file) = &mut self.file {
            let filter = Some(self.options.filter.clone()).filter(|filter| !filter.is_empty());
            let snaplen = self.options.snaplen;
            file.interface(&InterfaceDescription { name: lane.name.clone(), link_type, snaplen, filter });
        }
    }

    fn report(mut self, problem: Option<String>) -> CaptureReport {
        let losses: Vec<_> = self.lanes.iter_mut().map(Lane::losses).collect();
        let mut statistics = vec![InterfaceStatistics::default(); self.file_link_types.len()];
        for (lane, losses) in self.lanes.iter().zip(&losses) {
            if let Some(statistics) = lane.file_interfaces.last().and_then(|number| statistics.get_mut(*number as usize)) {
                *statistics = InterfaceStatistics {
                    received: losses.received,
                    interface_dropped: losses.interface_dropped,
                    kernel_dropped: losses.kernel_dropped,
                };
            }
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        let file = match self.file.take() {
            Some(file) => file.finish(unix_ns, &statistics, !self.progress.hurry.load(Ordering::Acquire)),
            None => FileReport { not_written: self.unwritten, problem: self.file_problem.take(), ..FileReport::default() },
        };
        let written = |lane: &Lane| lane.file_interfaces.iter().filter_map(|number| file.packets.get(*number as usize)).sum();
        let interfaces: Vec<_> = self
            .lanes
            .iter()
            .zip(&losses)
            .map(|(lane, losses)| InterfaceCapture {
                name: lane.name.clone(),
                packets: written(lane),
                kernel_dropped: losses.kernel_dropped,
                interface_dropped: losses.interface_dropped,
                error: lane.error.clone(),
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

/// What there is to do after a sleep.
struct Ready {
    /// Interfaces with something to tell.
    lanes: Vec<(usize, PollFlags)>,
    stopped: bool,
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}
