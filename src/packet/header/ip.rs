//! IPv4 (RFC 791) and IPv6 (RFC 8200) down to the transport.

use super::{at_most, from, icmp::Icmp, tcp::Tcp, u16_at, u32_at, udp::Udp};
use crate::packet::Reject;
use pnet::packet::ipv6::Ipv6Packet;
use std::net::IpAddr;

/// IP protocol numbers (IANA); for IPv6 they number the extension headers too.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION: u8 = 60;
    /// IPv6 mobility.
    pub const MOBILITY: u8 = 135;
    /// Host identity.
    pub const HOST_IDENTITY: u8 = 139;
    /// Shim6.
    pub const SHIM6: u8 = 140;
}

/// Bytes of an IPv4 header without options.
const IPV4_HEADER: usize = 20;

/// An IPv4 or IPv6 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip<'a> {
    /// Who sent it.
    pub src: IpAddr,
    /// Whom it is for.
    pub dst: IpAddr,
    /// The number that IPv4 gives a packet, to tell it from others of its sender; 0 where there is none.
    pub number: u16,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// The transport's protocol number; for IPv6 the one after the extension headers.
    pub protocol: u8,
    /// Which piece it is, if it is a piece of a larger packet.
    pub fragment: Option<Fragment>,
    /// The bytes behind the headers, as far as they are here.
    pub payload: &'a [u8],
    /// What it carries.
    pub transport: Transport<'a>,
}

/// Which piece of a larger packet this one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// The same in all pieces of a packet.
    pub identification: u32,
    /// Where it begins in the whole payload, in bytes.
    pub offset: u32,
    /// Whether more pieces follow.
    pub more: bool,
}

/// What an IP packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport<'a> {
    /// A TCP segment. In a first fragment its payload is what this piece holds of it.
    Tcp(Tcp<'a>),
    /// A UDP datagram. In a first fragment its payload is what this piece holds of it.
    Udp(Udp<'a>),
    /// ICMP or ICMPv6.
    Icmp(Icmp<'a>),
    /// A piece that does not begin with a whole transport header.
    Fragment,
    /// The snap length left no whole transport header.
    Cut,
    /// Any other protocol, with its bytes.
    Other(&'a [u8]),
}

/// The bytes that an IP header announces, as far as they are here.
#[derive(Clone, Copy)]
pub(super) struct Carried<'a> {
    /// What is here.
    pub data: &'a [u8],
    /// How much there was on the wire: `data.len()`, or more when the packet was cut.
    pub len: usize,
    /// Whether it is the first of several fragments.
    pub first_fragment: bool,
}

impl Carried<'_> {
    fn is_cut(&self) -> bool {
        self.data.len() < self.len
    }
}

impl<'a> Ip<'a> {
    /// The packet, and whether it was cut.
    #[inline(always)]
    pub(crate) fn decode_v4(data: &'a [u8]) -> Result<(Self, bool), Reject> {
        // Each packet comes by here: one look whether the header is there does for all its fields.
        let header = data.first_chunk::<IPV4_HEADER>().ok_or(Reject::IpHeader)?;
        let [version_and_len, _, t0, t1, n0, n1, o0, o1, ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *header;
        if version_and_len >> 4 != 4 {
            return Err(Reject::IpVersion);
        }
        let header_len = usize::from(version_and_len & 0x0F) * 4;
        if header_len < IPV4_HEADER {
            return Err(Reject::Ipv4HeaderLength);
        }
        let total_len = match usize::from(u16::from_be_bytes([t0, t1])) {
            // The sender's network card was to cut it into segments: it is as long as it is.
            0 => data.len().max(header_len),
            total_len => total_len,
        };
        let len = total_len.checked_sub(header_len).ok_or(Reject::Ipv4TotalLength)?;
        let number = u16::from_be_bytes([n0, n1]);
        // Three flags, of which the last is "more fragments", and the offset in units of eight bytes.
        let flags_and_offset = u16::from_be_bytes([o0, o1]);
        let (offset, more) = (u32::from(flags_and_offset & 0x1FFF) * 8, flags_and_offset & 0x2000 != 0);
        let fragment = (offset > 0 || more).then(|| Fragment { identification: number.into(), offset, more });
        let carried = Carried { data: at_most(from(data, header_len), len), len, first_fragment: more && offset == 0 };
        let ip = Self {
            src: IpAddr::from([s0, s1, s2, s3]),
            dst: IpAddr::from([d0, d1, d2, d3]),
            number,
            ttl,
            protocol,
            fragment,
            payload: carried.data,
            transport: if offset > 0 { Transport::Fragment } else { transport(protocol, carried, false)? },
        };
        Ok((ip, data.len() < total_len))
    }

    /// The packet, and whether it was cut.
    pub(crate) fn decode_v6(data: &'a [u8]) -> Result<(Self, bool), Reject> {
        let header = Ipv6Packet::new(data).ok_or(Reject::IpHeader)?;
        if header.get_version() != 6 {
            return Err(Reject::IpVersion);
        }
        let rest = from(data, Ipv6Packet::minimum_packet_size());
        let next_header = header.get_next_header().0;
        let len = match usize::from(header.get_payload_length()) {
            // The sender's network card was to cut it into segments, or it is a jumbogram (RFC 2675).
            0 if matches!(next_header, protocol::TCP | protocol::HOP_BY_HOP) => rest.len(),
            len => len,
        };
        let carried = Carried { data: at_most(rest, len), len, first_fragment: false };
        let inner = skip_extensions(next_header, carried)?;
        let transport = match inner.fragment {
            Some(fragment) if fragment.offset > 0 => Transport::Fragment,
            _ if inner.incomplete => Transport::Cut,
            _ => transport(inner.protocol, inner.carried, true)?,
        };
        let ip = Self {
            src: header.get_source().into(),
            dst: header.get_destination().into(),
            number: 0,
            ttl: header.get_hop_limit(),
            protocol: inner.protocol,
            fragment: inner.fragment,
            payload: inner.carried.data,
            transport,
        };
        Ok((ip, carried.is_cut()))
    }
}

/// What comes after the IPv6 extension headers.
pub(super) struct AfterExtensions<'a> {
    pub protocol: u8,
    pub fragment: Option<Fragment>,
    pub carried: Carried<'a>,
    /// The snap length cut an extension header; `protocol` is that header's.
    incomplete: bool,
}

/// Skips IPv6 extension headers (RFC 8200, section 4). Each is at least 8 bytes long, so the packet's length bounds the loop.
pub(super) fn skip_extensions(first: u8, mut carried: Carried<'_>) -> Result<AfterExtensions<'_>, Reject> {
    let mut protocol = first;
    let mut fragment = None;
    loop {
        let len = match protocol {
            protocol::FRAGMENT => Some(8),
            protocol::AUTHENTICATION => carried.data.get(1).map(|len| (usize::from(*len) + 2) * 4),
            protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::DESTINATION
            | protocol::MOBILITY
            | protocol::HOST_IDENTITY
            | protocol::SHIM6 => carried.data.get(1).map(|len| (usize::from(*len) + 1) * 8),
            _ => return Ok(AfterExtensions { protocol, fragment, carried, incomplete: false }),
        };
        let header = len.and_then(|len| carried.data.get(..len));
        let (Some(header), Some(&next)) = (header, carried.data.first()) else {
            // Cut off, or a header that claims more than the packet has.
            return match carried.is_cut() && len.is_none_or(|len| len <= carried.len) {
                true => Ok(AfterExtensions { protocol, fragment, carried, incomplete: true }),
                false => Err(Reject::Ipv6Extension),
            };
        };
        if protocol == protocol::FRAGMENT {
            let offset_and_more = u16_at(header, 2).unwrap_or(0);
            let (offset, more) = (u32::from(offset_and_more & 0xfff8), offset_and_more & 1 != 0);
            // A fragment header on a whole packet (RFC 6946) makes it no piece.
            if offset > 0 || more {
                fragment = Some(Fragment { identification: u32_at(header, 4).unwrap_or(0), offset, more });
                carried.first_fragment = offset == 0;
            }
        }
        carried.data = from(carried.data, header.len());
        carried.len -= header.len();
        protocol = next;
        if fragment.is_some_and(|fragment| fragment.offset > 0) {
            return Ok(AfterExtensions { protocol, fragment, carried, incomplete: false });
        }
    }
}

/// The transport in a whole payload.
pub(crate) fn transport_of(protocol: u8, payload: &[u8], is_v6: bool) -> Result<Transport<'_>, Reject> {
    transport(protocol, Carried { data: payload, len: payload.len(), first_fragment: false }, is_v6)
}

// If it were not inlined, each segment's header would be copied twice on its way up.
#[inline(always)]
fn transport(protocol: u8, carried: Carried<'_>, is_v6: bool) -> Result<Transport<'_>, Reject> {
    let header_len = match protocol {
        protocol::TCP => Tcp::HEADER_LEN,
        protocol::UDP => Udp::HEADER_LEN,
        protocol::ICMP if !is_v6 => Icmp::HEADER_LEN,
        protocol::ICMPV6 if is_v6 => Icmp::HEADER_LEN,
        _ => return Ok(Transport::Other(carried.data)),
    };
    if carried.len < header_len && carried.first_fragment {
        return Ok(Transport::Fragment);
    }
    if carried.data.len() < header_len && carried.len >= header_len {
        return Ok(Transport::Cut);
    }
    match protocol {
        protocol::TCP => Tcp::decode(carried).map(Transport::Tcp),
        protocol::UDP => Udp::decode(carried).map(Transport::Udp),
        _ => Icmp::decode(carried.data, is_v6).map(Transport::Icmp),
    }
}
