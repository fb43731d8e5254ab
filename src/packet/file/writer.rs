//! A pcapng file, block by block, in the byte order of this host's kind: little-endian.

use super::code;
use crate::packet::{LinkType, Packet};
use std::io::{self, Write};

/// Who wrote a section, and on what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SectionDescription {
    /// The machine.
    pub hardware: Option<String>,
    /// The operating system.
    pub os: Option<String>,
    /// The program and its version.
    pub application: Option<String>,
    /// Anything worth saying.
    pub comment: Option<String>,
}

/// An interface as a file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceDescription {
    /// Its name.
    pub name: String,
    /// What each of its packets begins with.
    pub link_type: LinkType,
    /// The most bytes that are kept of a packet; 0 if there is no limit.
    pub snaplen: u32,
    /// The capture filter.
    pub filter: Option<String>,
}

/// What was lost at an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterfaceStatistics {
    /// Packets that passed the filter.
    pub received: u64,
    /// Packets that the interface dropped.
    pub interface_dropped: u64,
    /// Packets that the kernel dropped because they were not read in time.
    pub kernel_dropped: u64,
}

/// Writes a pcapng file with one section. Times are in nanoseconds; those before 1970 are written as 1970.
///
/// Each call writes whole blocks, so a sink that keeps what each call wrote together never holds half a packet.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
    bytes: u64,
    interfaces: u32,
    options: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins the file.
    ///
    /// # Errors
    /// When the sink cannot be written to.
    pub fn new(sink: W, section: &SectionDescription) -> io::Result<Self> {
        let mut writer = Self { sink, bytes: 0, interfaces: 0, options: Vec::new() };
        for (code, text) in [
            (code::OPTION_COMMENT, &section.comment),
            (code::SECTION_HARDWARE, &section.hardware),
            (code::SECTION_OS, &section.os),
            (code::SECTION_APPLICATION, &section.application),
        ] {
            writer.text(code, text.as_deref());
        }
        let mut fixed = [0; 16];
        fixed[..4].copy_from_slice(&code::BYTE_ORDER_MAGIC.to_le_bytes());
        fixed[4..6].copy_from_slice(&1_u16.to_le_bytes());
        // Minor version 0; a section of unknown length.
        fixed[8..].copy_from_slice(&u64::MAX.to_le_bytes());
        writer.block(code::SECTION, &fixed, &[])?;
        Ok(writer)
    }

    /// Describes the next interface and tells its number, from 0.
    ///
    /// # Errors
    /// When the sink cannot be written to.
    pub fn interface(&mut self, interface: &InterfaceDescription) -> io::Result<u32> {
        const NANOSECONDS: u8 = 9;
        self.text(code::INTERFACE_NAME, Some(&interface.name));
        self.option(code::INTERFACE_TIME_RESOLUTION, &[NANOSECONDS]);
        if let Some(filter) = &interface.filter {
            const FILTER_STRING: u8 = 0;
            let mut value = vec![FILTER_STRING];
            value.extend_from_slice(filter.as_bytes());
            self.option(code::INTERFACE_FILTER, &value);
        }
        let mut fixed = [0; 8];
        fixed[..2].copy_from_slice(&interface.link_type.0.to_le_bytes());
        fixed[4..].copy_from_slice(&interface.snaplen.to_le_bytes());
        self.block(code::INTERFACE, &fixed, &[])?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// Writes one packet of an interface that was described. Its number is not written: readers count.
    ///
    /// # Errors
    /// When the sink cannot be written to, or the interface was not described.
    pub fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        self.packet_with_comment(packet, None)
    }

    /// Writes one packet with a comment that readers show beside it.
    ///
    /// # Errors
    /// As [`Writer::packet`].
    pub fn packet_with_comment(&mut self, packet: &Packet<'_>, comment: Option<&str>) -> io::Result<()> {
        if packet.interface >= self.interfaces {
            let message = format!("interface {} is not described, only {} are", packet.interface, self.interfaces);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let captured_len = u32::try_from(packet.data.len()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.text(code::OPTION_COMMENT, comment);
        let (high, low) = stamp(packet.unix_ns);
        let mut fixed = [0; 20];
        for (field, number) in fixed.chunks_exact_mut(4).zip([packet.interface, high, low, captured_len, packet.wire_len]) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        self.block(code::ENHANCED_PACKET, &fixed, packet.data)
    }

    /// Writes what was lost at an interface until `unix_ns`; usually at the end.
    ///
    /// # Errors
    /// When the sink cannot be written to.
    pub fn statistics(&mut self, interface: u32, unix_ns: i64, statistics: InterfaceStatistics) -> io::Result<()> {
        self.option(code::STATISTICS_RECEIVED, &statistics.received.to_le_bytes());
        self.option(code::STATISTICS_INTERFACE_DROPPED, &statistics.interface_dropped.to_le_bytes());
        self.option(code::STATISTICS_KERNEL_DROPPED, &statistics.kernel_dropped.to_le_bytes());
        let (high, low) = stamp(unix_ns);
        let mut fixed = [0; 12];
        for (field, number) in fixed.chunks_exact_mut(4).zip([interface, high, low]) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        self.block(code::STATISTICS, &fixed, &[])
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that a packet without a comment takes in the file, if `captured_len` bytes of it are kept.
    pub const fn packet_bytes(captured_len: usize) -> u64 {
        const FRAME_AND_FIXED: u64 = 12 + 20;
        FRAME_AND_FIXED + captured_len.next_multiple_of(4) as u64
    }

    /// The sink.
    pub fn sink_mut(&mut self) -> &mut W {
        &mut self.sink
    }

    /// Ends writing and gives the sink back.
    pub fn into_sink(self) -> W {
        self.sink
    }

    /// Adds an option to the block that is written next. Longer values than an option holds are cut.
    fn option(&mut self, code: u16, value: &[u8]) {
        let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
        self.options.extend_from_slice(&code.to_le_bytes());
        self.options.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.options.extend_from_slice(value);
        self.options.resize(self.options.len().next_multiple_of(4), 0);
    }

    fn text(&mut self, code: u16, text: Option<&str>) {
        if let Some(text) = text {
            self.option(code, text.as_bytes());
        }
    }

    fn block(&mut self, block_type: u32, fixed: &[u8], data: &[u8]) -> io::Result<()> {
        const END_OF_OPTIONS: [u8; 4] = [0; 4];
        if !self.options.is_empty() {
            self.options.extend_from_slice(&END_OF_OPTIONS);
        }
        let padding = data.len().next_multiple_of(4) - data.len();
        let total_len = 12 + fixed.len() + data.len() + padding + self.options.len();
        let written_len = u32::try_from(total_len).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let result = [&block_type.to_le_bytes(), &written_len.to_le_bytes(), fixed, data, &[0; 3][..padding], &self.options]
            .into_iter()
            .chain([&written_len.to_le_bytes()[..]])
            .try_for_each(|part| self.sink.write_all(part));
        self.options.clear();
        self.bytes += total_len as u64;
        result
    }
}

/// High and low half of a time stamp.
fn stamp(unix_ns: i64) -> (u32, u32) {
    let stamp = u64::try_from(unix_ns).unwrap_or(0);
    ((stamp >> 32) as u32, stamp as u32)
}
