//! One window of a continuous capture: a file and a sink that get the same packets under the same numbers.

use super::{
    CaptureFile, WindowOptions,
    file::FileReport,
    intake::Intake,
    lane::Mark,
    live::Screen,
    recorder::{FLUSH_AFTER, now_ns, panic_text},
};
use crate::{
    api::{CaptureReport, InterfaceCapture},
    packet::{InterfaceDescription, InterfaceStatistics, Packet, PacketSink},
};
use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// An interface in the window's file, where its number is its position.
struct Described {
    /// Its number in the capture.
    number: u32,
    /// What is taken of its packets; none: all.
    screen: Option<Screen>,
}

/// A window that is open.
pub struct Window<S> {
    interfaces: Vec<String>,
    filter: String,
    /// The interfaces that it has to do with, as they were when it began.
    marks: BTreeMap<String, Mark>,
    /// The interfaces in the file.
    described: Vec<Described>,
    /// Where the interface of the last packet is: mostly the next one's, too.
    position: usize,
    /// The intake's changes that it knows.
    changes: Option<u64>,
    file: Option<CaptureFile>,
    problem: Option<String>,
    sink: Arc<Mutex<S>>,
    /// The sink panicked; packets go to the file only.
    sink_broken: bool,
    packets: u64,
    cut: u64,
    unwritten: u64,
    flush_at: Option<Instant>,
    /// How long before it was opened it begins.
    past: Duration,
}

impl<S: PacketSink> Window<S> {
    /// A window that begins so long before now.
    pub fn new(
        options: WindowOptions,
        file: io::Result<CaptureFile>,
        sink: Arc<Mutex<S>>,
        intake: &mut Intake,
        (now, past): (Instant, Duration),
    ) -> Self {
        let WindowOptions { file: path, interfaces, filter, .. } = options;
        let (file, problem) = match file {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(format!("there is no capture file, `{}` cannot be made: {error}", path.display()))),
        };
        let mut window = Self {
            interfaces,
            filter,
            marks: BTreeMap::new(),
            described: Vec::new(),
            position: 0,
            changes: None,
            file,
            problem,
            sink,
            sink_broken: false,
            packets: 0,
            cut: 0,
            unwritten: 0,
            flush_at: None,
            past,
        };
        let begin = now.checked_sub(past).unwrap_or(now);
        for lane in intake.lanes_mut() {
            if window.is_wanted(&lane.name) && lane.retired_at().is_none_or(|retired_at| retired_at > begin) {
                window.marks.insert(lane.name.clone(), lane.mark(begin));
            }
        }
        window.describe(intake);
        window
    }

    /// Describes in the file the interfaces that are new.
    pub fn describe(&mut self, intake: &Intake) {
        if self.changes.replace(intake.changes()) == Some(intake.changes()) {
            return;
        }
        for lane in intake.lanes().iter().filter(|lane| lane.retired_at().is_none()) {
            if self.is_wanted(&lane.name) && !self.marks.contains_key(&lane.name) {
                self.marks.insert(lane.name.clone(), lane.mark_of_handle());
            }
        }
        for (&number, interface) in intake.described() {
            if !self.marks.contains_key(&interface.name) || self.described.iter().any(|known| known.number == number) {
                continue;
            }
            self.described.push(Described { number, screen: self.screen_of(interface) });
            if let Some(file) = &mut self.file {
                let filter = Some(self.filter.clone()).filter(|filter| !filter.is_empty()).or(interface.filter.clone());
                file.interface(&InterfaceDescription { filter, ..interface.clone() });
            }
        }
    }

    fn screen_of(&self, interface: &InterfaceDescription) -> Option<Screen> {
        if self.filter.is_empty() {
            return None;
        }
        Screen::new(interface.link_type, &self.filter)
            .inspect_err(|error| tracing::warn!(interface = interface.name, %error, "all of its packets are taken"))
            .ok()
    }

    fn is_wanted(&self, interface: &str) -> bool {
        self.interfaces.is_empty() || self.interfaces.iter().any(|wanted| wanted == interface)
    }

    /// Whether it has to do with the interface of this name.
    pub fn knows(&self, interface: &str) -> bool {
        self.marks.contains_key(interface)
    }

    /// Takes a packet, if it is one for this window.
    pub fn packet(&mut self, packet: &Packet<'_>) {
        let is_its = |known: &Described| known.number == packet.interface;
        if !self.described.get(self.position).is_some_and(is_its) {
            let Some(position) = self.described.iter().position(is_its) else { return };
            self.position = position;
        }
        let screen = self.described.get(self.position).and_then(|known| known.screen.as_ref());
        if screen.is_some_and(|screen| !screen.passes(packet.data)) {
            return;
        }
        self.packets += 1;
        self.cut += u64::from(packet.wire_len as usize > packet.data.len());
        let packet = Packet { number: self.packets, interface: self.position as u32, ..*packet };
        match &mut self.file {
            Some(file) => file.packet(&packet),
            None => self.unwritten += 1,
        }
        self.guarded(|sink| sink.packet(&packet));
    }

    /// Another window is closed, and this one goes on.
    pub fn at_seam(&mut self, at_seam: impl FnOnce(&mut S, u64), intake: &mut Intake) {
        let losses = intake.lanes_mut().iter_mut().filter_map(|lane| {
            let mark = *self.marks.get(&lane.name)?;
            Some(lane.losses_since(mark).kernel_dropped)
        });
        let dropped = losses.sum();
        self.guarded(|sink| at_seam(sink, dropped));
    }

    /// Does something with the sink; one that panics is left alone from then on.
    fn guarded(&mut self, work: impl FnOnce(&mut S)) {
        if self.sink_broken {
            return;
        }
        let sink = &self.sink;
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut sink.lock().unwrap_or_else(PoisonError::into_inner))));
        if let Err(panic) = done {
            self.sink_broken = true;
            self.problem = Some(format!("the analysis broke off at packet {}: {}", self.packets, panic_text(&*panic)));
            tracing::error!(problem = self.problem, "recording goes on");
        }
    }

    /// Takes a packet of many that come at once, out of memory: the file is written in between, or it would be in memory as a whole.
    pub fn past_packet(&mut self, packet: &Packet<'_>) {
        self.packet(packet);
        if let Some(file) = self.file.as_mut().filter(|file| file.wants_flush()) {
            file.flush();
        }
    }

    /// Writes what is due, and tells when there will be more.
    pub fn flush(&mut self, now: Instant) -> Option<Instant> {
        let file = self.file.as_mut()?;
        if file.wants_flush() || self.flush_at.is_some_and(|flush_at| flush_at <= now) {
            file.flush();
            self.flush_at = None;
        } else if self.flush_at.is_none() && file.pending() > 0 {
            self.flush_at = Some(now + FLUSH_AFTER);
        }
        self.flush_at
    }

    /// How far it is.
    pub fn progress(&self) -> WindowProgress {
        WindowProgress {
            packets: self.packets,
            bytes: self.file.as_ref().map_or(0, CaptureFile::bytes),
            file_ended: self.file.as_ref().is_none_or(CaptureFile::has_ended),
        }
    }

    /// Ends the window. The file is not finished yet, because that waits for the disk.
    pub fn close(self, intake: &mut Intake) -> ClosedWindow {
        let mut statistics = vec![InterfaceStatistics::default(); self.described.len()];
        let mut interfaces = Vec::new();
        for lane in intake.lanes_mut() {
            let Some(&mark) = self.marks.get(&lane.name) else { continue };
            let losses = lane.losses_since(mark);
            let positions =
                lane.numbers.iter().filter_map(|&number| self.described.iter().position(|known| known.number == number));
            let positions: Vec<usize> = positions.collect();
            if let Some(statistics) = positions.last().and_then(|position| statistics.get_mut(*position)) {
                *statistics = losses.statistics();
            }
            let capture = InterfaceCapture {
                name: lane.name.clone(),
                packets: 0,
                kernel_dropped: losses.kernel_dropped,
                interface_dropped: losses.interface_dropped,
                error: lane.error_since(mark),
            };
            interfaces.push((capture, positions));
        }
        let own = Some(self.filter).filter(|filter| !filter.is_empty());
        let filter = own.or_else(|| intake.described().values().next().and_then(|interface| interface.filter.clone()));
        ClosedWindow {
            file: self.file,
            problem: self.problem,
            interfaces,
            statistics,
            unwritten: self.unwritten,
            cut: self.cut,
            filter,
            unix_ns: now_ns(),
            past: self.past,
        }
    }
}

/// How far an open window is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WindowProgress {
    /// Packets taken.
    pub packets: u64,
    /// Bytes of file.
    pub bytes: u64,
    /// Whether the file takes no more packets.
    pub file_ended: bool,
}

/// A window that gets no more packets, and whose file is still to be finished.
pub struct ClosedWindow {
    file: Option<CaptureFile>,
    problem: Option<String>,
    /// Each with its places in the file.
    interfaces: Vec<(InterfaceCapture, Vec<usize>)>,
    statistics: Vec<InterfaceStatistics>,
    unwritten: u64,
    cut: u64,
    filter: Option<String>,
    unix_ns: i64,
    past: Duration,
}

impl ClosedWindow {
    /// How long before it was opened it begins; less than what was to be remembered if the capture is younger, or memory was short.
    pub fn past(&self) -> Duration {
        self.past
    }

    /// Packets that the kernel dropped.
    pub fn kernel_dropped(&self) -> u64 {
        self.interfaces.iter().map(|(interface, _)| interface.kernel_dropped).sum()
    }

    /// Finishes the file and gives it its name. Blocks on the disk; with `sync` until the file is safe from a power cut.
    pub fn finish(self, sync: bool) -> CaptureReport {
        let file = match self.file {
            Some(file) => file.finish(self.unix_ns, &self.statistics, sync),
            None => FileReport { not_written: self.unwritten, ..FileReport::default() },
        };
        let interfaces: Vec<InterfaceCapture> = self
            .interfaces
            .into_iter()
            .map(|(capture, positions)| {
                let packets = positions.iter().filter_map(|position| file.packets.get(*position)).sum();
                InterfaceCapture { packets, ..capture }
            })
            .collect();
        CaptureReport {
            file: file.path.map(|path| path.display().to_string()),
            file_bytes: file.bytes,
            packets: file.packets.iter().sum(),
            filter: self.filter,
            kernel_dropped: interfaces.iter().map(|interface| interface.kernel_dropped).sum(),
            interfaces,
            not_written: file.not_written,
            undecodable: 0,
            cut: self.cut,
            problem: self.problem.or(file.problem),
        }
    }
}
