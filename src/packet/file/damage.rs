//! Why a capture file could not be read to its end.

use thiserror::Error;

/// Where a file stops making sense. Every packet before that place was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{kind} (at byte {offset} of the file)")]
pub struct Damage {
    /// How many bytes of the file came before the place.
    pub offset: u64,
    /// What is wrong there.
    pub kind: DamageKind,
}

/// What is wrong in a capture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DamageKind {
    /// There is not one byte in it: the recorder was stopped before it wrote any.
    #[error("the file is empty")]
    Empty,
    /// It is shorter than what any capture file begins with.
    #[error("this is no pcap or pcapng file: it is too short for one")]
    TooShort,
    /// It begins like no pcap or pcapng file.
    #[error("this is no pcap or pcapng file: it begins with {0:02x?}")]
    NotACapture([u8; 4]),
    /// It ends within a packet or block: the recorder was killed, or the copy was not finished.
    #[error("the file ends in the middle of a packet")]
    Truncated,
    /// A packet claims more bytes than any packet has.
    #[error("a packet claims {0} bytes, more than its place or any packet has")]
    PacketLength(u32),
    /// A block's length is impossible.
    #[error("a block has the impossible length {0}")]
    BlockLength(u32),
    /// A section begins with no known byte order.
    #[error("a section has the unknown byte order mark {0:#010x}")]
    ByteOrder(u32),
    /// A packet belongs to an interface that the section does not describe.
    #[error("a packet belongs to interface {0}, which is not described")]
    UnknownInterface(u32),
    /// More interfaces than any recorder has.
    #[error("the file describes more interfaces than any host has")]
    TooManyInterfaces,
}
