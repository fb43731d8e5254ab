//! Packets as values: capture files read and written, and link, network and transport headers checked. No I/O but through
//! `std::io::Read` and `Write`, no clock.

mod decode;
mod decoded;
mod record;

pub use decode::decode;
pub use decoded::{Arp, Decoded, Icmp, IcmpBody, Ip, Mac, Net, Quoted, Reject, Tcp, TcpFlags, Transport};
pub use record::{LinkType, Packet, PacketSink};
