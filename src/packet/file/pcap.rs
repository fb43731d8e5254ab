//! The pcap format: one header, then packets.

use crate::packet::LinkType;

/// Bytes of the file's header.
pub const FILE_HEADER: usize = 24;

/// What the header of a pcap file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pcap {
    big_endian: bool,
    ns_per_unit: i64,
    /// Bytes before each packet.
    pub record_header: usize,
    /// What each packet begins with.
    pub link_type: LinkType,
    /// The most bytes that were kept of a packet.
    pub snaplen: u32,
}

/// What stands before a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub unix_ns: i64,
    pub captured_len: u32,
    pub wire_len: u32,
}

impl Pcap {
    /// Whether a file that begins with these bytes is a pcap file.
    pub fn is_magic(magic: [u8; 4]) -> bool {
        format(magic).is_some()
    }

    /// Reads the header.
    pub fn read(header: &[u8; FILE_HEADER]) -> Option<Self> {
        let [m0, m1, m2, m3, ..] = *header;
        let (big_endian, ns_per_unit, record_header) = format([m0, m1, m2, m3])?;
        let mut pcap = Self { big_endian, ns_per_unit, record_header, link_type: LinkType(0), snaplen: 0 };
        pcap.snaplen = pcap.number(header, 16);
        // The upper half may tell the length of the frame check sequence.
        pcap.link_type = LinkType((pcap.number(header, 20) & 0xffff) as u16);
        Some(pcap)
    }

    /// Reads what stands before a packet.
    pub fn record(&self, header: &[u8]) -> Record {
        // Four numbers, with one look whether they are there: this is done for each packet.
        let header = header.first_chunk::<16>().copied().unwrap_or_default();
        let [seconds, fraction, captured_len, wire_len] = [0, 4, 8, 12].map(|offset| self.number(&header, offset));
        Record { unix_ns: i64::from(seconds) * 1_000_000_000 + i64::from(fraction) * self.ns_per_unit, captured_len, wire_len }
    }

    #[inline]
    fn number(&self, bytes: &[u8], offset: usize) -> u32 {
        let number = bytes.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        if self.big_endian { u32::from_be_bytes(number) } else { u32::from_le_bytes(number) }
    }
}

/// Whether the file is big-endian, how many nanoseconds its unit of time has, and how long a record's header is.
fn format(magic: [u8; 4]) -> Option<(bool, i64, usize)> {
    let form = |number| match number {
        0xa1b2_c3d4 => Some((1000, 16)),
        0xa1b2_3c4d => Some((1, 16)),
        // A patched libpcap of the 1990s: interface, protocol and direction in every record.
        0xa1b2_cd34 => Some((1000, 24)),
        _ => None,
    };
    let (big, little) = (form(u32::from_be_bytes(magic)), form(u32::from_le_bytes(magic)));
    big.map(|(unit, header)| (true, unit, header)).or(little.map(|(unit, header)| (false, unit, header)))
}
