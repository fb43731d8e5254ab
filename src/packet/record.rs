//! One captured packet, and what takes packets.

/// A link type as capture files number it (<https://www.tcpdump.org/linktypes.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: a 4-byte address family in host order.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// Raw IP, version told by the first nibble.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: a 4-byte address family in network order.
    pub const LOOP: Self = Self(108);
    /// Linux cooked capture, version 1.
    pub const LINUX_SLL: Self = Self(113);
    /// Linux cooked capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

/// One packet as it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its number in the capture file, from 1, as Wireshark counts.
    pub number: u64,
    /// When it was captured: nanoseconds since 1970-01-01T00:00:00Z.
    pub unix_ns: i64,
    /// The capture's interface, from 0 in the order in which they were opened.
    pub interface: u32,
    /// What `data` begins with.
    pub link_type: LinkType,
    /// Its length on the wire, in bytes; more than `data` when it was cut by the snap length.
    pub wire_len: u32,
    /// The bytes that were kept.
    pub data: &'a [u8],
}

/// What takes packets one by one, in the order of their numbers: an analysis, a file writer, a counter.
pub trait PacketSink: Send {
    /// Takes one packet. It must be quick: it runs in the capture's own thread.
    fn packet(&mut self, packet: &Packet<'_>);
}
