//! Why a packet cannot be decoded.

use thiserror::Error;

/// The rule that a packet breaks, by the header that breaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Error)]
pub enum Reject {
    /// The capture's link type is none that is known here.
    #[error("unknown link type")]
    LinkType,
    /// Fewer bytes than the link header has.
    #[error("link header incomplete")]
    LinkHeader,
    /// A VLAN tag with no room for its type.
    #[error("VLAN tag incomplete")]
    VlanTag,
    /// Fewer bytes than an ARP message for IPv4 over Ethernet has.
    #[error("ARP message incomplete")]
    ArpHeader,
    /// An ARP message that is not about Ethernet and IPv4 addresses.
    #[error("ARP for other addresses than Ethernet and IPv4")]
    ArpFormat,
    /// An IP version other than the link header, or anyone, says.
    #[error("wrong IP version")]
    IpVersion,
    /// Fewer bytes than the IP header has.
    #[error("IP header incomplete")]
    IpHeader,
    /// An IPv4 header length below 20 bytes.
    #[error("IPv4 header length below 20")]
    Ipv4HeaderLength,
    /// An IPv4 total length that is shorter than the header.
    #[error("IPv4 total length shorter than its header")]
    Ipv4TotalLength,
    /// An IPv6 extension header that goes past the end of the packet.
    #[error("IPv6 extension header past the end")]
    Ipv6Extension,
    /// An IP payload that is too short for a TCP header.
    #[error("TCP header incomplete")]
    TcpHeader,
    /// A TCP data offset below 20 bytes or past the end of the packet.
    #[error("TCP data offset impossible")]
    TcpDataOffset,
    /// An IP payload that is too short for a UDP header.
    #[error("UDP header incomplete")]
    UdpHeader,
    /// A UDP length that is shorter than the header or longer than the packet.
    #[error("UDP length impossible")]
    UdpLength,
    /// An IP payload that is too short for an ICMP header.
    #[error("ICMP header incomplete")]
    IcmpHeader,
}
