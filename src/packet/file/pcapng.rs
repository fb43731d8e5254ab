//! The blocks of a pcapng file.

use super::code;
use crate::packet::LinkType;

/// A section's byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOrder {
    Big,
    Little,
}

impl ByteOrder {
    /// From the byte order mark of a section header.
    pub fn of_mark(mark: [u8; 4]) -> Option<Self> {
        match mark {
            mark if u32::from_be_bytes(mark) == code::BYTE_ORDER_MAGIC => Some(Self::Big),
            mark if u32::from_le_bytes(mark) == code::BYTE_ORDER_MAGIC => Some(Self::Little),
            _ => None,
        }
    }

    pub fn u16(self, bytes: &[u8], offset: usize) -> Option<u16> {
        let bytes = *bytes.get(offset..)?.first_chunk()?;
        Some(if self == Self::Big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    pub fn u32(self, bytes: &[u8], offset: usize) -> Option<u32> {
        let bytes = *bytes.get(offset..)?.first_chunk()?;
        Some(if self == Self::Big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn u64(self, bytes: &[u8]) -> Option<u64> {
        let bytes = *bytes.first_chunk()?;
        Some(if self == Self::Big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// The options of a block: code and value. They end where the block does, or where one claims too much.
    fn options(self, mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
        std::iter::from_fn(move || {
            let code = self.u16(bytes, 0)?;
            let len = usize::from(self.u16(bytes, 2)?);
            let value = bytes.get(4..4 + len)?;
            bytes = bytes.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
            (code != 0).then_some((code, value))
        })
    }
}

/// How an interface counts time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Units in a second; `None` when there are more than can be counted with.
    units_per_second: Option<u128>,
    offset_seconds: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { units_per_second: Some(1_000_000), offset_seconds: 0 }
    }
}

impl Clock {
    /// Nanoseconds since 1970 of a time stamp.
    pub fn unix_ns(self, high: u32, low: u32) -> i64 {
        let stamp = (u64::from(high) << 32) | u64::from(low);
        let since_offset = match self.units_per_second {
            Some(1_000_000_000) => i64::try_from(stamp).unwrap_or(i64::MAX),
            Some(1_000_000) => i64::try_from(stamp).unwrap_or(i64::MAX).saturating_mul(1000),
            Some(units) => i64::try_from(u128::from(stamp) * 1_000_000_000 / units).unwrap_or(i64::MAX),
            None => 0,
        };
        since_offset.saturating_add(self.offset_seconds.saturating_mul(1_000_000_000))
    }
}

/// What an interface description block says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub link_type: LinkType,
    pub snaplen: u32,
    pub name: Option<String>,
    pub description: Option<String>,
    pub filter: Option<String>,
    pub clock: Clock,
}

impl Description {
    /// Reads the body of an interface description block.
    pub fn read(order: ByteOrder, body: &[u8]) -> Option<Self> {
        let mut description = Self {
            link_type: LinkType(order.u16(body, 0)?),
            snaplen: order.u32(body, 4)?,
            name: None,
            description: None,
            filter: None,
            clock: Clock::default(),
        };
        for (code, value) in order.options(body.get(8..)?) {
            match (code, value) {
                (code::INTERFACE_NAME, value) => description.name = Some(text(value)),
                (code::INTERFACE_DESCRIPTION, value) => description.description = Some(text(value)),
                (code::INTERFACE_FILTER, [0, value @ ..]) => description.filter = Some(text(value)),
                (code::INTERFACE_TIME_RESOLUTION, [resolution, ..]) => {
                    let (base, exponent) = if resolution & 0x80 == 0 { (10_u128, *resolution) } else { (2, resolution & 0x7f) };
                    description.clock.units_per_second = base.checked_pow(exponent.into());
                }
                (code::INTERFACE_TIME_OFFSET, value) => {
                    description.clock.offset_seconds = order.u64(value).map_or(0, u64::cast_signed);
                }
                _ => {}
            }
        }
        Some(description)
    }
}

/// What an interface statistics block says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    pub interface: u32,
    pub received: Option<u64>,
    pub interface_dropped: Option<u64>,
    pub kernel_dropped: Option<u64>,
}

impl Statistics {
    /// Reads the body of an interface statistics block.
    pub fn read(order: ByteOrder, body: &[u8]) -> Option<Self> {
        let mut statistics = Self { interface: order.u32(body, 0)?, ..Self::default() };
        for (code, value) in order.options(body.get(12..)?) {
            match code {
                code::STATISTICS_RECEIVED => statistics.received = order.u64(value),
                code::STATISTICS_INTERFACE_DROPPED => statistics.interface_dropped = order.u64(value),
                code::STATISTICS_KERNEL_DROPPED => statistics.kernel_dropped = order.u64(value),
                _ => {}
            }
        }
        Some(statistics)
    }
}

/// What stands before the bytes of a packet, in any of the three packet blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketHeader {
    pub interface: u32,
    /// High and low half; a simple packet block has none.
    pub stamp: Option<(u32, u32)>,
    /// A simple packet block does not say: the section's first interface and the block's length do.
    pub captured_len: Option<u32>,
    pub wire_len: u32,
    /// Where the bytes begin within the block's body.
    pub data_offset: usize,
}

impl PacketHeader {
    /// Reads the beginning of a packet block's body; `None` if it is too short.
    pub fn read(order: ByteOrder, block_type: u32, body: &[u8]) -> Option<Self> {
        Some(match block_type {
            code::SIMPLE_PACKET => {
                Self { interface: 0, stamp: None, captured_len: None, wire_len: order.u32(body, 0)?, data_offset: 4 }
            }
            block_type => Self {
                interface: match block_type {
                    code::OBSOLETE_PACKET => order.u16(body, 0)?.into(),
                    _ => order.u32(body, 0)?,
                },
                stamp: Some((order.u32(body, 4)?, order.u32(body, 8)?)),
                captured_len: Some(order.u32(body, 12)?),
                wire_len: order.u32(body, 16)?,
                data_offset: 20,
            },
        })
    }
}

/// Text of an option: cut to what a person reads, whatever its bytes are.
fn text(value: &[u8]) -> String {
    const MOST: usize = 4096;
    String::from_utf8_lossy(value.get(..MOST).unwrap_or(value)).trim_end_matches('\0').to_owned()
}
