//! Packets as values: capture files read and written, and link, network and transport headers checked. No I/O but through
//! `std::io::Read` and `Write`, no clock.

mod record;

pub use record::{LinkType, Packet, PacketSink};
