//! Packets from a capture file, one by one.

use super::{
    Damage, DamageKind, MAX_PACKET_BYTES, code,
    pcap::{self, Pcap},
    pcapng::{ByteOrder, Clock, Description, PacketHeader, Statistics},
    window::Window,
};
use crate::packet::{LinkType, Packet};
use std::io::{self, Read};

/// The longest block whose content is looked at. Longer ones of other kinds are skipped without being held.
const MAX_BLOCK: u32 = 4 * MAX_PACKET_BYTES;
/// The most interfaces that one file may describe, over all its sections.
const MAX_INTERFACES: usize = 4096;
/// Block type, and its length before and after the body.
const BLOCK_FRAME: usize = 12;

/// An interface as a capture file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedInterface {
    /// Its name on the host that captured.
    pub name: Option<String>,
    /// What else the file says of it.
    pub description: Option<String>,
    /// What each of its packets begins with.
    pub link_type: LinkType,
    /// The most bytes that were kept of a packet; 0 if there was no limit.
    pub snaplen: u32,
    /// The capture filter.
    pub filter: Option<String>,
    /// Packets that the interface received, by the file's latest statistics.
    pub received: Option<u64>,
    /// Packets that the interface dropped.
    pub interface_dropped: Option<u64>,
    /// Packets that the operating system dropped.
    pub kernel_dropped: Option<u64>,
}

/// Reads pcap (microseconds and nanoseconds) and pcapng, either byte order, from any source of bytes.
///
/// A file that stops making sense, or stops in the middle, ends where it does: [`Reader::damage`] then says where and why.
/// Memory is bounded whatever the file says: lengths are checked before anything is allocated.
pub struct Reader<R> {
    window: Window<R>,
    format: Format,
    interfaces: Vec<RecordedInterface>,
    clocks: Vec<Clock>,
    packets: u64,
    numbered: u64,
    last_unix_ns: i64,
    damage: Option<Damage>,
}

enum Format {
    Pcap(Pcap),
    Pcapng {
        order: ByteOrder,
        /// The number of the section's first interface.
        first_interface: usize,
    },
    /// There is nothing more to read.
    Ended,
}

/// Where a packet stands in the window, and what the file says of it.
struct Found {
    interface: usize,
    unix_ns: i64,
    wire_len: u32,
    position: usize,
    len: usize,
}

/// What reading on came to.
enum Step {
    Packet(Found),
    Other,
    End,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning. What is no capture file gives a reader without packets, with its [`Reader::damage`].
    ///
    /// # Errors
    /// When the source cannot be read.
    pub fn new(source: R) -> io::Result<Self> {
        let mut reader = Self {
            window: Window::new(source),
            format: Format::Ended,
            interfaces: Vec::new(),
            clocks: Vec::new(),
            packets: 0,
            numbered: 0,
            last_unix_ns: 0,
            damage: None,
        };
        reader.begin()?;
        Ok(reader)
    }

    fn begin(&mut self) -> io::Result<()> {
        if !self.window.fill(1)? {
            return self.fail(DamageKind::Empty);
        }
        if !self.window.fill(4)? {
            return self.fail(DamageKind::TooShort);
        }
        let magic = self.window.bytes().first_chunk::<4>().copied().unwrap_or_default();
        if magic == code::SECTION.to_be_bytes() {
            // The section header itself is the first block to be read, and tells the byte order.
            self.format = Format::Pcapng { order: ByteOrder::Little, first_interface: 0 };
            return Ok(());
        }
        if !Pcap::is_magic(magic) {
            return self.fail(DamageKind::NotACapture(magic));
        }
        if !self.window.fill(pcap::FILE_HEADER)? {
            return self.fail(DamageKind::TooShort);
        }
        if let Some(header) = self.window.bytes().first_chunk().and_then(Pcap::read) {
            self.window.consume(pcap::FILE_HEADER);
            self.interfaces.push(RecordedInterface {
                name: None,
                description: None,
                link_type: header.link_type,
                snaplen: header.snaplen,
                filter: None,
                received: None,
                interface_dropped: None,
                kernel_dropped: None,
            });
            self.format = Format::Pcap(header);
        }
        Ok(())
    }

    /// The next packet; `None` at the end, be it a clean one or not (see [`Reader::damage`]). Its bytes are valid until the next call.
    ///
    /// # Errors
    /// When the source cannot be read; what is wrong with the file is none.
    pub fn next_packet(&mut self) -> io::Result<Option<Packet<'_>>> {
        let found = loop {
            let step = match self.format {
                Format::Pcap(header) => self.pcap_record(header)?,
                Format::Pcapng { order, first_interface } => self.block(order, first_interface)?,
                Format::Ended => Step::End,
            };
            match step {
                Step::Packet(found) => break found,
                Step::Other => {}
                Step::End => return Ok(None),
            }
        };
        self.packets += 1;
        self.numbered += 1;
        self.last_unix_ns = found.unix_ns;
        Ok(Some(Packet {
            number: self.numbered,
            unix_ns: found.unix_ns,
            interface: u32::try_from(found.interface).unwrap_or(u32::MAX),
            link_type: self.interfaces.get(found.interface).map_or(LinkType::NULL, |interface| interface.link_type),
            wire_len: found.wire_len,
            data: self.window.slice(found.position, found.len),
        }))
    }

    /// The interfaces described so far, over all sections; [`Packet::interface`] counts in them. Their statistics usually stand at
    /// the end of the file.
    pub fn interfaces(&self) -> &[RecordedInterface] {
        &self.interfaces
    }

    /// Packets read so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// The number of the latest packet or other record: more than [`Self::packets`] if the file holds records that are no packets
    /// but that Wireshark numbers too.
    pub fn numbered(&self) -> u64 {
        self.numbered
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.window.offset()
    }

    /// Why the file ended early, if it did.
    pub fn damage(&self) -> Option<Damage> {
        self.damage
    }

    fn fail<T: From<Ended>>(&mut self, kind: DamageKind) -> io::Result<T> {
        self.damage = Some(Damage { offset: self.window.offset(), kind });
        self.format = Format::Ended;
        Ok(Ended.into())
    }

    fn end(&mut self) -> io::Result<Step> {
        if self.window.bytes().is_empty() {
            self.format = Format::Ended;
            return Ok(Step::End);
        }
        self.fail(DamageKind::Truncated)
    }

    fn pcap_record(&mut self, header: Pcap) -> io::Result<Step> {
        if !self.window.fill(header.record_header)? {
            return self.end();
        }
        let record = header.record(self.window.bytes());
        if record.captured_len > MAX_PACKET_BYTES {
            return self.fail(DamageKind::PacketLength(record.captured_len));
        }
        let len = record.captured_len as usize;
        if !self.window.fill(header.record_header + len)? {
            return self.fail(DamageKind::Truncated);
        }
        let position = self.window.consume(header.record_header + len) + header.record_header;
        Ok(Step::Packet(Found { interface: 0, unix_ns: record.unix_ns, wire_len: record.wire_len, position, len }))
    }

    fn block(&mut self, order: ByteOrder, first_interface: usize) -> io::Result<Step> {
        if !self.window.fill(BLOCK_FRAME)? {
            return self.end();
        }
        let bytes = self.window.bytes();
        let mark = bytes.get(8..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        let is_section = bytes.starts_with(&code::SECTION.to_be_bytes());
        let order = match is_section {
            false => order,
            true => match ByteOrder::of_mark(mark) {
                Some(order) => order,
                None => return self.fail(DamageKind::ByteOrder(u32::from_be_bytes(mark))),
            },
        };
        let block_type = if is_section { code::SECTION } else { order.u32(bytes, 0).unwrap_or(0) };
        let total_len = order.u32(bytes, 4).unwrap_or(0);
        if total_len < 12 || !total_len.is_multiple_of(4) {
            return self.fail(DamageKind::BlockLength(total_len));
        }
        let is_known = matches!(
            block_type,
            code::INTERFACE | code::OBSOLETE_PACKET | code::SIMPLE_PACKET | code::STATISTICS | code::ENHANCED_PACKET
        );
        if is_section {
            let first_interface = self.interfaces.len();
            self.format = Format::Pcapng { order, first_interface };
        }
        if !is_known {
            return match self.window.skip(total_len.into())? {
                true => {
                    self.numbered += u64::from(code::NUMBERED.contains(&block_type));
                    Ok(Step::Other)
                }
                false => self.fail(DamageKind::Truncated),
            };
        }
        if total_len > MAX_BLOCK {
            return self.fail(DamageKind::BlockLength(total_len));
        }
        let len = total_len as usize;
        if !self.window.fill(len)? {
            return self.fail(DamageKind::Truncated);
        }
        let body = self.window.bytes().get(8..len - 4).unwrap_or_default();
        let closing_len = order.u32(self.window.bytes(), len - 4).unwrap_or(0);
        if closing_len != total_len {
            return self.fail(DamageKind::BlockLength(closing_len));
        }
        match block_type {
            code::INTERFACE => match Description::read(order, body) {
                None => return self.fail(DamageKind::BlockLength(total_len)),
                Some(_) if self.interfaces.len() >= MAX_INTERFACES => return self.fail(DamageKind::TooManyInterfaces),
                Some(description) => self.describe(description),
            },
            code::STATISTICS => match Statistics::read(order, body) {
                None => return self.fail(DamageKind::BlockLength(total_len)),
                Some(statistics) => self.count(first_interface, statistics),
            },
            _ => match self.packet_block(PacketHeader::read(order, block_type, body), first_interface, body.len()) {
                Err(kind) => return self.fail(kind),
                Ok(mut found) => {
                    found.position += self.window.consume(len) + 8;
                    return Ok(Step::Packet(found));
                }
            },
        }
        self.window.consume(len);
        Ok(Step::Other)
    }

    /// Checks a packet block; the position is relative to its body.
    fn packet_block(&self, header: Option<PacketHeader>, first_interface: usize, body_len: usize) -> Result<Found, DamageKind> {
        let header = header.ok_or(DamageKind::BlockLength(u32::try_from(body_len + BLOCK_FRAME).unwrap_or(u32::MAX)))?;
        let interface = first_interface.saturating_add(header.interface as usize);
        let (Some(recorded), Some(clock)) = (self.interfaces.get(interface), self.clocks.get(interface)) else {
            return Err(DamageKind::UnknownInterface(header.interface));
        };
        let room = body_len.saturating_sub(header.data_offset);
        let captured_len = match header.captured_len {
            Some(captured_len) => captured_len,
            None => {
                let limit = if recorded.snaplen == 0 { u32::MAX } else { recorded.snaplen };
                header.wire_len.min(limit).min(u32::try_from(room).unwrap_or(u32::MAX))
            }
        };
        if captured_len > MAX_PACKET_BYTES || captured_len as usize > room {
            return Err(DamageKind::PacketLength(captured_len));
        }
        Ok(Found {
            interface,
            // A simple packet block has no time of its own: it came after the one before it.
            unix_ns: header.stamp.map_or(self.last_unix_ns, |(high, low)| clock.unix_ns(high, low)),
            wire_len: header.wire_len,
            position: header.data_offset,
            len: captured_len as usize,
        })
    }

    fn describe(&mut self, description: Description) {
        self.clocks.push(description.clock);
        self.interfaces.push(RecordedInterface {
            name: description.name,
            description: description.description,
            link_type: description.link_type,
            snaplen: description.snaplen,
            filter: description.filter,
            received: None,
            interface_dropped: None,
            kernel_dropped: None,
        });
    }

    fn count(&mut self, first_interface: usize, statistics: Statistics) {
        let interface = first_interface.saturating_add(statistics.interface as usize);
        if let Some(recorded) = self.interfaces.get_mut(interface) {
            recorded.received = statistics.received.or(recorded.received);
            recorded.interface_dropped = statistics.interface_dropped.or(recorded.interface_dropped);
            recorded.kernel_dropped = statistics.kernel_dropped.or(recorded.kernel_dropped);
        }
    }
}

/// The file has no more packets, and why is noted.
struct Ended;

impl From<Ended> for Step {
    fn from(_: Ended) -> Self {
        Self::End
    }
}

impl From<Ended> for () {
    fn from(_: Ended) -> Self {}
}
