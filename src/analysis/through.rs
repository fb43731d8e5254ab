//! A whole capture, read through.

use super::{Analysis, catalogue, findings::finding, tally::Tally};
use crate::{
    api::{AnalysisReport, AnalysisVerdict, Severity},
    packet::{Damage, DamageKind, PacketSink as _, Reader, decompressed},
};
use std::{
    io::{self, Read},
    ops::ControlFlow,
};

/// How many packets are read between two looks at whether to go on.
const BETWEEN: u64 = 4096;

/// How the reading of a capture ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadThrough {
    /// Why it ended before the end of the file.
    pub damage: Option<String>,
    /// Whether it is a capture at all: its beginning could be read.
    pub is_capture: bool,
    /// Whether it was broken off by the caller.
    pub broken_off: bool,
}

/// Whether this begins as a capture file does, compressed or not.
///
/// # Errors
/// When the source cannot be read.
pub fn begins_as_capture(source: impl Read + Send) -> io::Result<bool> {
    // What is wrongly compressed is no capture either.
    let plain = decompressed(source)?;
    let Ok(reader) = Reader::new(plain) else { return Ok(false) };
    Ok(!matches!(reader.damage(), Some(Damage { kind: DamageKind::Empty | DamageKind::NotACapture(_) | DamageKind::TooShort, .. })))
}

impl Analysis {
    /// The report on a file that was read through, which tells also of the file itself: that it breaks off, or that nothing is in it.
    pub fn report_of_file(&self, file: String, through: ReadThrough) -> AnalysisReport {
        let mut report = self.report();
        report.file = Some(file);
        if report.packets == 0 && !through.broken_off {
            let message = "the capture holds no packets, so nothing can be said";
            report.verdict = AnalysisVerdict::Suspect;
            report.reasons.insert(0, message.to_owned());
            let empty = finding(catalogue::CAPTURE_EMPTY, Severity::Warning, &Tally::without_evidence(1), message.to_owned());
            report.findings.insert(0, empty);
            report.findings_total += 1;
        }
        if let Some(damage) = &through.damage {
            let breaks_off = format!("the file was read until it breaks off: {damage}");
            report.text = format!("{}; {breaks_off}", report.text);
            report.reasons.push(breaks_off);
        }
        report.damage = through.damage;
        report
    }

    /// Takes all packets of a capture file, compressed or not, and finishes. `go_on` is asked every few thousand packets, with their
    /// number so far.
    ///
    /// # Errors
    /// Those of the source before the first packet; a source that fails later is damage, and what was read until then counts.
    pub fn read_through<'r>(
        &mut self,
        source: impl Read + Send + 'r,
        go_on: &mut dyn FnMut(&mut Self, u64) -> ControlFlow<()>,
    ) -> io::Result<ReadThrough> {
        let mut reader = Reader::new(decompressed(source)?)?;
        let mut through = ReadThrough::default();
        let mut next_look = BETWEEN;
        loop {
            let read = reader.packets();
            match reader.next_packet() {
                Ok(Some(packet)) => self.packet(&packet),
                Ok(None) => break,
                Err(error) if read > 0 => {
                    through.damage = Some(format!("the file could not be read further: {error}"));
                    break;
                }
                Err(error) => return Err(error),
            }
            if reader.packets() >= next_look {
                next_look += BETWEEN;
                if go_on(self, reader.packets()).is_break() {
                    through.broken_off = true;
                    break;
                }
            }
        }
        self.finish();
        let dropped = reader
            .interfaces()
            .iter()
            .map(|interface| interface.kernel_dropped.unwrap_or(0).saturating_add(interface.interface_dropped.unwrap_or(0)));
        self.set_dropped(dropped.fold(0, u64::saturating_add));
        through.is_capture = !reader.interfaces().is_empty() || reader.packets() > 0 || reader.damage().is_none();
        through.damage = through.damage.or_else(|| reader.damage().map(|damage: Damage| damage.to_string()));
        Ok(through)
    }
}
