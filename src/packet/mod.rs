//! Packets as values: capture files read and written, and link, network and transport headers checked. No I/O but through
//! `std::io::Read` and `Write`, no clock.
//!
//! [`decode()`] takes the bytes of one packet and gives a [`Decoded`] that borrows from them:
//!
//! ```text
//! Decoded { vlan, src_mac, dst_mac, cut, net }
//!   Net::Arp(Arp { operation, sender_mac, sender_ip, target_mac, target_ip })
//!   Net::Ip(Ip { src, dst, ttl, protocol, fragment, transport })
//!     Transport::Tcp(Tcp { src_port, dst_port, seq, ack, flags, window, options(), payload, payload_len })
//!     Transport::Udp(Udp { src_port, dst_port, payload, payload_len })
//!     Transport::Icmp(Icmp { icmp_type, code, body: Echo | Error { quoted } | Redirect | NeighborSolicit | .. })
//!     Transport::Fragment | Transport::Cut | Transport::Other(payload)
//!   Net::Llc(payload)                     an 802.3 frame: spanning tree and its like
//!   Net::Other { ethertype, payload }
//! ```
//!
//! Every length is checked against the bytes that are there. What breaks a rule is a [`Reject`] that says which; what the snap
//! length cut off is no rule broken: it is decoded as far as it goes and marked `cut`. Check sums are not verified, because packets
//! that this host sends are captured before its network card has filled them in.
//!
//! [`Reader`] gives the packets of a capture file ([`decompressed()`] if need be), [`Writer`] makes one; [`Fragments`] puts together what
//! was sent in pieces.

mod decode;
mod file;
mod fragments;
mod header;
mod record;
mod reject;

pub use decode::{Decoded, Net, decode};
pub use file::{
    Damage, DamageKind, InterfaceDescription, InterfaceStatistics, MAX_PACKET_BYTES, Reader, RecordedInterface, SectionDescription,
    Writer, decompressed,
};
pub use fragments::{Fragments, WholePayload};
pub use header::{
    arp::{Arp, ArpOperation},
    icmp::{Icmp, IcmpBody, Quoted},
    ip::{Fragment, Ip, Transport},
    tcp::{SackBlocks, Tcp, TcpFlags, TcpOptions},
    udp::Udp,
};
pub use pnet::util::MacAddr;
pub use record::{LinkType, Packet, PacketSink};
pub use reject::Reject;

#[cfg(test)]
mod tests;
