//! TCP (RFC 9293) and the options that tell something (RFC 7323, RFC 2018).

use super::{from, ip::Carried, u16_at, u32_at};
use crate::packet::Reject;

/// One TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp<'a> {
    /// The sender's port.
    pub src_port: u16,
    /// The receiver's port.
    pub dst_port: u16,
    /// The sequence number of the first payload byte, or of the SYN.
    pub seq: u32,
    /// The next sequence number that the sender expects; it means something only with the ACK flag.
    pub ack: u32,
    /// The flags.
    pub flags: TcpFlags,
    /// The window as it stands in the header, not scaled.
    pub window: u16,
    /// The bytes of the options, as far as they are here; [`Self::options`] reads them.
    pub raw_options: &'a [u8],
    /// The payload, as far as it is here.
    pub payload: &'a [u8],
    /// The payload's length on the wire, in bytes: more than `payload` when the packet was cut.
    pub payload_len: u32,
}

/// The flags of a TCP segment. Each method tests one flag, whatever the others are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronises sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Resets the connection.
    pub const RST: u8 = 0x04;
    /// Asks to pass the data on.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number means something.
    pub const ACK: u8 = 0x10;

    /// Whether FIN is set.
    pub const fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// Whether SYN is set.
    pub const fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// Whether RST is set.
    pub const fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Whether PSH is set.
    pub const fn psh(self) -> bool {
        self.0 & Self::PSH != 0
    }

    /// Whether ACK is set.
    pub const fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }
}

impl<'a> Tcp<'a> {
    pub(super) const HEADER_LEN: usize = 20;

    #[inline(always)]
    pub(super) fn decode(carried: Carried<'a>) -> Result<Self, Reject> {
        // Each segment comes by here: one look whether the header is there does for all its fields.
        let header = carried.data.first_chunk::<{ Tcp::HEADER_LEN }>().ok_or(Reject::TcpHeader)?;
        let [p0, p1, q0, q1, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = *header;
        let header_len = usize::from(offset >> 4) * 4;
        if header_len < Self::HEADER_LEN {
            return Err(Reject::TcpDataOffset);
        }
        let payload_len = carried.len.checked_sub(header_len).ok_or(Reject::TcpDataOffset)?;
        let raw_options = carried.data.get(Self::HEADER_LEN..header_len).unwrap_or_else(|| from(carried.data, Self::HEADER_LEN));
        Ok(Self {
            src_port: u16::from_be_bytes([p0, p1]),
            dst_port: u16::from_be_bytes([q0, q1]),
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            ack: u32::from_be_bytes([a0, a1, a2, a3]),
            flags: TcpFlags(flags),
            window: u16::from_be_bytes([w0, w1]),
            raw_options,
            payload: from(carried.data, header_len),
            payload_len: u32::try_from(payload_len).unwrap_or(u32::MAX),
        })
    }

    /// How far this segment moves the sequence number: its payload, and one each for SYN and FIN.
    pub fn sequence_len(&self) -> u32 {
        self.payload_len.saturating_add(u32::from(self.flags.syn())).saturating_add(u32::from(self.flags.fin()))
    }

    /// The options, read one by one.
    pub fn options(&self) -> TcpOptions {
        TcpOptions::read(self.raw_options)
    }
}

/// The options of a segment that tell something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpOptions {
    /// The largest segment that the sender of a SYN takes, in bytes.
    pub max_segment_size: Option<u16>,
    /// By how many bits the sender of a SYN will have its windows shifted.
    pub window_scale: Option<u8>,
    /// Whether the sender of a SYN takes selective acknowledgements.
    pub sack_permitted: bool,
    /// The sender's time stamp and the one it echoes.
    pub timestamps: Option<(u32, u32)>,
    /// What arrived beyond a gap.
    pub sack: SackBlocks,
    /// Whether an option had an impossible length. What came before it was read, what follows it was not.
    pub malformed: bool,
}

/// Ranges of sequence numbers (first, first beyond) that were received beyond a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SackBlocks {
    blocks: [(u32, u32); 4],
    len: u8,
}

impl SackBlocks {
    /// The ranges, the latest first.
    pub fn as_slice(&self) -> &[(u32, u32)] {
        self.blocks.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn read(data: &[u8]) -> Self {
        let mut read = Self::default();
        for (block, bytes) in read.blocks.iter_mut().zip(data.chunks_exact(8)) {
            *block = (u32_at(bytes, 0).unwrap_or(0), u32_at(bytes, 4).unwrap_or(0));
            read.len += 1;
        }
        read
    }
}

impl TcpOptions {
    fn read(mut data: &[u8]) -> Self {
        let mut options = Self::default();
        loop {
            let (kind, len) = match data {
                [] | [0, ..] => return options,
                [1, rest @ ..] => {
                    data = rest;
                    continue;
                }
                [kind, len, ..] => (*kind, usize::from(*len)),
                [_] => (0, 0),
            };
            let Some(value) = data.get(2..len) else {
                options.malformed = true;
                return options;
            };
            match (kind, value.len()) {
                (2, 2) => options.max_segment_size = u16_at(value, 0),
                // RFC 7323: more than 14 is taken as 14.
                (3, 1) => options.window_scale = value.first().map(|shift| (*shift).min(14)),
                (4, 0) => options.sack_permitted = true,
                (5, len) if len % 8 == 0 => options.sack = SackBlocks::read(value),
                (8, 8) => options.timestamps = u32_at(value, 0).zip(u32_at(value, 4)),
                (2..=5 | 8, _) => options.malformed = true,
                _ => {}
            }
            data = from(data, len);
        }
    }
}
