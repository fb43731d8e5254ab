//! What a packet's headers say, as values.

use std::net::IpAddr;

/// A hardware (Ethernet) address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A packet whose headers make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Who sent it on this link, where the link tells.
    pub src_mac: Option<Mac>,
    /// Whom it was sent to on this link, where the link tells.
    pub dst_mac: Option<Mac>,
    /// The outermost VLAN, if it is tagged (IEEE 802.1Q).
    pub vlan: Option<u16>,
    /// What it carries.
    pub net: Net<'a>,
}

/// What the link layer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net<'a> {
    /// ARP for IPv4 over Ethernet (RFC 826).
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Ip<'a>),
    /// Another protocol, by its EtherType (below 1536: the length of an IEEE 802.3 frame, as of spanning tree).
    Other(u16),
}

/// An ARP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// The sender's hardware address.
    pub sender_mac: Mac,
    /// The sender's address; `0.0.0.0` in a probe (RFC 5227).
    pub sender_ip: IpAddr,
    /// The target's hardware address.
    pub target_mac: Mac,
    /// The address that is asked for or answered to.
    pub target_ip: IpAddr,
}

/// An IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip<'a> {
    /// The source.
    pub src: IpAddr,
    /// The destination.
    pub dst: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Whether it is a part of a fragmented packet.
    pub fragment: bool,
    /// What it carries.
    pub transport: Transport<'a>,
}

/// What IP carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport<'a> {
    /// TCP.
    Tcp(Tcp<'a>),
    /// UDP.
    Udp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
    },
    /// ICMP or ICMPv6.
    Icmp(Icmp<'a>),
    /// A later part of a fragmented packet, or one whose transport header is in a later part; the protocol number.
    Fragment(u8),
    /// Another protocol, by its number.
    Other(u8),
}

/// A TCP segment (RFC 9293).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp<'a> {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the first byte (of the SYN, if it is one).
    pub seq: u32,
    /// Acknowledgement number; means something only with the ACK flag.
    pub ack: u32,
    /// The flags.
    pub flags: TcpFlags,
    /// The window as it stands in the header, unscaled.
    pub window: u16,
    /// The payload's length on the wire; more than `payload` holds if the packet was cut by the snap length.
    pub payload_len: u32,
    /// The payload, as far as it was kept.
    pub payload: &'a [u8],
}

/// TCP's flags. Each is tested on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// The sender has no more to send.
    pub const fn fin(self) -> bool {
        self.0 & 0x01 != 0
    }
    /// The sender opens.
    pub const fn syn(self) -> bool {
        self.0 & 0x02 != 0
    }
    /// The sender resets.
    pub const fn rst(self) -> bool {
        self.0 & 0x04 != 0
    }
    /// The payload is to be pushed.
    pub const fn psh(self) -> bool {
        self.0 & 0x08 != 0
    }
    /// The acknowledgement number counts.
    pub const fn ack(self) -> bool {
        self.0 & 0x10 != 0
    }
}

/// An ICMP (RFC 792) or ICMPv6 (RFC 4443) message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmp<'a> {
    /// Whether it is ICMPv6.
    pub v6: bool,
    /// The type.
    pub icmp_type: u8,
    /// The code.
    pub code: u8,
    /// What it is about.
    pub body: IcmpBody<'a>,
}

/// What an ICMP message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpBody<'a> {
    /// An echo request (types 8, 128) or reply (0, 129).
    Echo {
        /// Whether it is the request.
        request: bool,
        /// The identifier.
        id: u16,
        /// The sequence number.
        sequence: u16,
    },
    /// An error (unreachable, time exceeded, ...) about a packet that it quotes; `None` if too little is quoted.
    Error(Option<Quoted>),
    /// A neighbour solicitation (RFC 4861): who has this address?
    NeighbourSolicitation(IpAddr),
    /// A neighbour advertisement: this address is at this hardware address, if it says so.
    NeighbourAdvertisement(IpAddr, Option<Mac>),
    /// Anything else.
    Other(&'a [u8]),
}

/// The packet that an ICMP error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// Its source.
    pub src: IpAddr,
    /// Its destination.
    pub dst: IpAddr,
    /// Its protocol number.
    pub protocol: u8,
    /// Its source and destination port, if it was TCP or UDP.
    pub ports: Option<(u16, u16)>,
    /// Its echo identifier and sequence number, if it was an echo request.
    pub echo: Option<(u16, u16)>,
}

/// Why a packet's headers make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reject {
    /// The link type is none that is known.
    #[error("unknown link type")]
    LinkType,
    /// It ends within a header although it was not cut: shorter than its own lengths say.
    #[error("ends within a header")]
    Short,
    /// An IP version that is neither 4 nor 6, or not the one announced.
    #[error("impossible IP version")]
    IpVersion,
    /// An IP header length or total length that cannot be.
    #[error("impossible IP length")]
    IpLength,
    /// A TCP data offset that cannot be.
    #[error("impossible TCP data offset")]
    TcpOffset,
    /// An ARP message for other than IPv4 over Ethernet.
    #[error("unknown kind of ARP")]
    ArpKind,
}
