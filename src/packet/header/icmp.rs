//! ICMP (RFC 792), ICMPv6 (RFC 4443) and IPv6 neighbour discovery (RFC 4861).

use super::{
    from,
    ip::{Carried, protocol, skip_extensions},
    u16_at, u32_at,
};
use crate::packet::{MacAddr, Reject};
use pnet::packet::{ipv4::Ipv4Packet, ipv6::Ipv6Packet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One ICMP or ICMPv6 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmp<'a> {
    /// Whether it is ICMPv6, which numbers types and codes in its own way.
    pub is_v6: bool,
    /// The type.
    pub icmp_type: u8,
    /// The code.
    pub code: u8,
    /// What it says.
    pub body: IcmpBody<'a>,
}

/// What an ICMP message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpBody<'a> {
    /// An echo request or reply.
    Echo {
        /// Whether it is the reply.
        reply: bool,
        /// The same in request and reply.
        identifier: u16,
        /// The same in request and reply.
        sequence: u16,
    },
    /// Something that was sent did not arrive: unreachable, too big, time exceeded, parameter problem.
    Error {
        /// The largest packet that would pass, in bytes, if the message says.
        mtu: Option<u32>,
        /// What did not arrive, as far as it is quoted.
        quoted: Option<Quoted>,
    },
    /// A router knows a better way.
    Redirect {
        /// The router to use.
        gateway: IpAddr,
        /// For this destination.
        destination: Option<IpAddr>,
    },
    /// Asks who has an IPv6 address.
    NeighborSolicit {
        /// The address.
        target: Ipv6Addr,
        /// The MAC address of the one who asks.
        source_mac: Option<MacAddr>,
    },
    /// Answers who has an IPv6 address.
    NeighborAdvert {
        /// The address.
        target: Ipv6Addr,
        /// The MAC address that has it.
        target_mac: Option<MacAddr>,
        /// Whether it was asked for.
        solicited: bool,
    },
    /// Anything else: the bytes after type, code and check sum.
    Other(&'a [u8]),
}

/// The beginning of a packet that an ICMP error quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quoted {
    /// Who sent it.
    pub src: IpAddr,
    /// Whom it was for.
    pub dst: IpAddr,
    /// Its protocol number.
    pub protocol: u8,
    /// Source and destination port, if it is TCP or UDP.
    pub ports: Option<(u16, u16)>,
    /// Its sequence number, if it is TCP.
    pub tcp_seq: Option<u32>,
    /// Identifier and sequence, if it is an echo request.
    pub echo: Option<(u16, u16)>,
}

impl<'a> Icmp<'a> {
    /// Type, code, check sum and four bytes whose meaning depends on the type.
    pub(super) const HEADER_LEN: usize = 8;

    pub(super) fn decode(data: &'a [u8], is_v6: bool) -> Result<Self, Reject> {
        let ([icmp_type, code, _, _, word @ ..], rest) = data.split_first_chunk::<8>().ok_or(Reject::IcmpHeader)?;
        let (icmp_type, code) = (*icmp_type, *code);
        let body = if is_v6 { body_v6(icmp_type, *word, rest) } else { body_v4(icmp_type, code, *word, rest) };
        Ok(Self { is_v6, icmp_type, code, body: body.unwrap_or(IcmpBody::Other(from(data, 4))) })
    }
}

fn echo<'a>(reply: bool, [a, b, c, d]: [u8; 4]) -> IcmpBody<'a> {
    IcmpBody::Echo { reply, identifier: u16::from_be_bytes([a, b]), sequence: u16::from_be_bytes([c, d]) }
}

fn body_v4(icmp_type: u8, code: u8, word: [u8; 4], rest: &[u8]) -> Option<IcmpBody<'_>> {
    Some(match icmp_type {
        0 | 8 => echo(icmp_type == 0, word),
        3 | 4 | 11 | 12 => {
            let mtu = u32::from(u16::from_be_bytes([word[2], word[3]]));
            let says_mtu = icmp_type == 3 && code == 4 && mtu > 0;
            IcmpBody::Error { mtu: says_mtu.then_some(mtu), quoted: Quoted::read(rest) }
        }
        5 => IcmpBody::Redirect { gateway: Ipv4Addr::from(word).into(), destination: Quoted::read(rest).map(|quoted| quoted.dst) },
        _ => return None,
    })
}

fn body_v6(icmp_type: u8, word: [u8; 4], rest: &[u8]) -> Option<IcmpBody<'_>> {
    Some(match icmp_type {
        128 | 129 => echo(icmp_type == 129, word),
        1..=4 => {
            let mtu = (icmp_type == 2).then_some(u32::from_be_bytes(word));
            IcmpBody::Error { mtu, quoted: Quoted::read(rest) }
        }
        135 => IcmpBody::NeighborSolicit { target: ipv6_at(rest, 0)?, source_mac: link_layer_option(from(rest, 16), 1) },
        136 => IcmpBody::NeighborAdvert {
            target: ipv6_at(rest, 0)?,
            target_mac: link_layer_option(from(rest, 16), 2),
            solicited: word[0] & 0x40 != 0,
        },
        137 => IcmpBody::Redirect { gateway: ipv6_at(rest, 0)?.into(), destination: ipv6_at(rest, 16).map(IpAddr::V6) },
        _ => return None,
    })
}

fn ipv6_at(data: &[u8], offset: usize) -> Option<Ipv6Addr> {
    data.get(offset..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

/// The MAC address in a neighbour discovery option of this kind (RFC 4861, section 4.6.1).
fn link_layer_option(mut options: &[u8], kind: u8) -> Option<MacAddr> {
    loop {
        let len = usize::from(*options.get(1)?) * 8;
        if len == 0 {
            return None;
        }
        if *options.first()? == kind {
            return options.get(2..)?.first_chunk::<6>().map(|mac| MacAddr::from(*mac));
        }
        options = options.get(len..)?;
    }
}

impl Quoted {
    fn read(data: &[u8]) -> Option<Self> {
        let (src, dst, protocol, inner): (IpAddr, IpAddr, u8, &[u8]) = match data.first()? >> 4 {
            4 => {
                let header = Ipv4Packet::new(data)?;
                let header_len = usize::from(header.get_header_length()) * 4;
                let begins = header.get_fragment_offset() == 0 && header_len >= Ipv4Packet::minimum_packet_size();
                let inner = if begins { from(data, header_len) } else { &[] };
                (header.get_source().into(), header.get_destination().into(), header.get_next_level_protocol().0, inner)
            }
            6 => {
                let header = Ipv6Packet::new(data)?;
                let rest = from(data, Ipv6Packet::minimum_packet_size());
                // A quotation ends where it ends: whatever is missing was cut.
                let carried = Carried { data: rest, len: usize::MAX, first_fragment: false };
                let (protocol, inner) = match skip_extensions(header.get_next_header().0, carried) {
                    Ok(inner) if inner.fragment.is_some_and(|fragment| fragment.offset > 0) => (inner.protocol, &[][..]),
                    Ok(inner) => (inner.protocol, inner.carried.data),
                    Err(_) => (header.get_next_header().0, &[][..]),
                };
                (header.get_source().into(), header.get_destination().into(), protocol, inner)
            }
            _ => return None,
        };
        let has_ports = matches!(protocol, protocol::TCP | protocol::UDP);
        let is_echo = matches!((protocol, inner.first()), (protocol::ICMP, Some(8)) | (protocol::ICMPV6, Some(128)));
        Some(Self {
            src,
            dst,
            protocol,
            ports: if has_ports { u16_at(inner, 0).zip(u16_at(inner, 2)) } else { None },
            tcp_seq: if protocol == protocol::TCP { u32_at(inner, 4) } else { None },
            echo: if is_echo { u16_at(inner, 4).zip(u16_at(inner, 6)) } else { None },
        })
    }
}
