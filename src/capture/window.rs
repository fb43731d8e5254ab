//! One window of a continuous capture: a file and a sink that get the same packets under the same numbers.

use super::{
    CaptureFile, WindowOptions,
    file::FileReport,
    intake::Intake,
    lane::Losses,
    live::Screen,
    recorder::{FLUSH_AFTER, now_ns, panic_text},
};
use crate::{
    api::{CaptureReport, InterfaceCapture},
    packet::{InterfaceDescription, InterfaceStatistics, Packet, PacketSink},
};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What a window takes of the packets of an interface.
enum Admission {
    All,
    Some(Screen),
    Nothing,
}

/// A window that is open.
pub struct Window<S> {
    interfaces: Vec<String>,
    filter: String,
    /// What is taken of each described interface.
    admission: Vec<Admission>,
    file: Option<CaptureFile>,
    problem: Option<String>,
    sink: Arc<Mutex<S>>,
    /// The sink panicked; packets go to the file only.
    sink_broken: bool,
    /// Interfaces that are described in the file.
    described: usize,
    /// What each interface had received and lost when the window was opened.
    before: Vec<Losses>,
    packets: u64,
    cut: u64,
    unwritten: u64,
    flush_at: Option<Instant>,
    /// How long before it was opened it begins.
    past: Duration,
}

impl<S: PacketSink> Window<S> {
    pub fn new(options: WindowOptions, file: io::Result<CaptureFile>, sink: Arc<Mutex<S>>, intake: &mut Intake) -> Self {
        let WindowOptions { file: path, interfaces, filter, .. } = options;
        let (file, problem) = match file {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(format!("there is no capture file, `{}` cannot be made: {error}", path.display()))),
        };
        let before = intake.losses();
        let mut window = Self {
            interfaces,
            filter,
            admission: Vec::new(),
            file,
            problem,
            sink,
            sink_broken: false,
            described: 0,
            before,
            packets: 0,
            cut: 0,
            unwritten: 0,
            flush_at: None,
            past: Duration::ZERO,
        };
        window.describe(intake);
        window
    }

    /// It gets packets that came before it was opened, without a gap for so long.
    pub fn begins_before(&mut self, past: Duration) {
        self.past = past;
    }

    /// Describes in the file the interfaces that are new.
    pub fn describe(&mut self, intake: &Intake) {
        for interface in intake.described().iter().skip(self.described) {
            self.admission.push(self.admission_of(interface));
            if let Some(file) = &mut self.file {
                let filter = Some(self.filter.clone()).filter(|filter| !filter.is_empty()).or(interface.filter.clone());
                file.interface(&InterfaceDescription { filter, ..interface.clone() });
            }
        }
        self.described = intake.described().len();
    }

    fn admission_of(&self, interface: &InterfaceDescription) -> Admission {
        if !self.is_wanted(&interface.name) {
            return Admission::Nothing;
        }
        if self.filter.is_empty() {
            return Admission::All;
        }
        match Screen::new(interface.link_type, &self.filter) {
            Ok(screen) => Admission::Some(screen),
            Err(error) => {
                tracing::warn!(interface = interface.name, %error, "all of its packets are taken");
                Admission::All
            }
        }
    }

    fn is_wanted(&self, interface: &str) -> bool {
        self.interfaces.is_empty() || self.interfaces.iter().any(|wanted| wanted == interface)
    }

    pub fn packet(&mut self, packet: &Packet<'_>) {
        match self.admission.get(packet.interface as usize) {
            Some(Admission::All) => {}
            Some(Admission::Some(screen)) if screen.passes(packet.data) => {}
            Some(Admission::Some(_) | Admission::Nothing) | None => return,
        }
        self.packets += 1;
        self.cut += u64::from(packet.wire_len as usize > packet.data.len());
        let packet = Packet { number: self.packets, ..*packet };
        match &mut self.file {
            Some(file) => file.packet(&packet),
            None => self.unwritten += 1,
        }
        if self.sink_broken {
            return;
        }
        let sink = &self.sink;
        let taken = catch_unwind(AssertUnwindSafe(|| sink.lock().unwrap_or_else(PoisonError::into_inner).packet(&packet)));
        if let Err(panic) = taken {
            self.sink_broken = true;
            self.problem = Some(format!("the analysis broke off at packet {}: {}", packet.number, panic_text(&*panic)));
            tracing::error!(problem = self.problem, "recording goes on");
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
        let losses = intake.losses();
        let losses: Vec<Losses> = losses
            .iter()
            .enumerate()
            .map(|(index, losses)| losses.since(self.before.get(index).copied().unwrap_or_default()))
            .collect();
        let mut statistics = vec![InterfaceStatistics::default(); self.described];
        let mut interfaces = Vec::new();
        for (lane, losses) in intake.lanes().iter().zip(&losses).filter(|(lane, _)| self.is_wanted(&lane.name)) {
            if let Some(statistics) = lane.file_interfaces.last().and_then(|number| statistics.get_mut(*number as usize)) {
                *statistics = losses.statistics();
            }
            let capture = InterfaceCapture {
                name: lane.name.clone(),
                packets: 0,
                kernel_dropped: losses.kernel_dropped,
                interface_dropped: losses.interface_dropped,
                error: lane.error.clone(),
            };
            interfaces.push((capture, lane.file_interfaces.clone()));
        }
        let own = Some(self.filter).filter(|filter| !filter.is_empty());
        let filter = own.or_else(|| intake.described().first().and_then(|interface| interface.filter.clone()));
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
    interfaces: Vec<(InterfaceCapture, Vec<u32>)>,
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

    /// Finishes the file and gives it its name. Blocks on the disk; with `sync` until the file is safe from a power cut.
    pub fn finish(self, sync: bool) -> CaptureReport {
        let file = match self.file {
            Some(file) => file.finish(self.unix_ns, &self.statistics, sync),
            None => FileReport { not_written: self.unwritten, ..FileReport::default() },
        };
        let interfaces: Vec<InterfaceCapture> = self
            .interfaces
            .into_iter()
            .map(|(capture, numbers)| {
                let packets = numbers.iter().filter_map(|number| file.packets.get(*number as usize)).sum();
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
