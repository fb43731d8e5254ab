//! Capture files: pcap and pcapng read, pcapng written.
//!
//! Formats: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html> and
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>.

mod compressed;
mod damage;
mod pcap;
mod pcapng;
mod reader;
mod window;
mod writer;

pub use compressed::decompressed;
pub use damage::{Damage, DamageKind};
pub use reader::{Reader, RecordedInterface};
pub use writer::{InterfaceDescription, InterfaceStatistics, SectionDescription, Writer};

/// The most bytes of one packet that are read or written, as in libpcap.
pub const MAX_PACKET_BYTES: u32 = 262_144;

/// pcapng block types and option codes, as far as they are used here.
mod code {
    pub const SECTION: u32 = 0x0a0d_0d0a;
    pub const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
    pub const INTERFACE: u32 = 1;
    pub const OBSOLETE_PACKET: u32 = 2;
    pub const SIMPLE_PACKET: u32 = 3;
    pub const STATISTICS: u32 = 5;
    pub const ENHANCED_PACKET: u32 = 6;
    /// Blocks without a packet that Wireshark numbers as it numbers packets: a line of the system's journal, and two kinds of
    /// block whose content is some maker's own.
    pub const NUMBERED: [u32; 3] = [9, 0x0bad, 0x4000_0bad];

    pub const OPTION_COMMENT: u16 = 1;
    pub const SECTION_HARDWARE: u16 = 2;
    pub const SECTION_OS: u16 = 3;
    pub const SECTION_APPLICATION: u16 = 4;
    pub const INTERFACE_NAME: u16 = 2;
    pub const INTERFACE_DESCRIPTION: u16 = 3;
    pub const INTERFACE_TIME_RESOLUTION: u16 = 9;
    pub const INTERFACE_FILTER: u16 = 11;
    pub const INTERFACE_TIME_OFFSET: u16 = 14;
    pub const STATISTICS_RECEIVED: u16 = 4;
    pub const STATISTICS_INTERFACE_DROPPED: u16 = 5;
    pub const STATISTICS_KERNEL_DROPPED: u16 = 7;
}
