//! Headers from bytes: one pass, nothing copied, every length checked before it is believed.
//!
//! The field access of `pnet`'s packet views is used where a view fits; none of them is given bytes whose lengths have not been
//! checked here, because they do not check them.

use super::{Arp, Decoded, Icmp, IcmpBody, Ip, LinkType, Mac, Net, Quoted, Reject, Tcp, TcpFlags, Transport};
use pnet::packet::{
    arp::ArpPacket,
    icmp::IcmpPacket,
    ipv4::Ipv4Packet,
    ipv6::Ipv6Packet,
    tcp::TcpPacket,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IEEE 802.1Q, 802.1ad, and the older QinQ.
const ETHERTYPES_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;

/// More tags or extension headers than any real packet has.
const NESTING_MAX: usize = 8;

/// Reads the headers of a packet whose kept bytes are `data` and whose length on the wire was `wire_len`.
///
/// A packet that was cut by the snap length is read as far as its headers go; only its payload is then shorter than it was.
///
/// # Errors
/// When the headers make no sense, or end too soon.
pub fn decode(link_type: LinkType, data: &[u8], wire_len: u32) -> Result<Decoded<'_>, Reject> {
    let cut = (wire_len as usize).saturating_sub(data.len());
    let mut decoded = Decoded { src_mac: None, dst_mac: None, vlan: None, net: Net::Other(0) };
    let (ethertype, rest) = match link_type {
        LinkType::ETHERNET => {
            let (header, rest) = split(data, 14)?;
            decoded.dst_mac = mac(header, 0);
            decoded.src_mac = mac(header, 6);
            (be16(header, 12)?, rest)
        }
        LinkType::LINUX_SLL => {
            let (header, rest) = split(data, 16)?;
            if be16(header, 4)? == 6 {
                decoded.src_mac = mac(header, 6);
            }
            (be16(header, 14)?, rest)
        }
        LinkType::LINUX_SLL2 => {
            let (header, rest) = split(data, 20)?;
            if header.get(11) == Some(&6) {
                decoded.src_mac = mac(header, 12);
            }
            (be16(header, 0)?, rest)
        }
        LinkType::RAW | LinkType(12 | 14 | 228 | 229) => (by_ip_version(data)?, data),
        LinkType::NULL | LinkType(108) => {
            let (_, rest) = split(data, 4)?;
            (by_ip_version(rest)?, rest)
        }
        _ => return Err(Reject::LinkType),
    };
    let (ethertype, rest) = untag(ethertype, rest, &mut decoded.vlan)?;
    decoded.net = match ethertype {
        ETHERTYPE_ARP => Net::Arp(arp(rest)?),
        ETHERTYPE_IPV4 => Net::Ip(ipv4(rest, cut)?),
        ETHERTYPE_IPV6 => Net::Ip(ipv6(rest, cut)?),
        other => Net::Other(other),
    };
    Ok(decoded)
}

/// Takes VLAN tags off.
fn untag<'a>(mut ethertype: u16, mut rest: &'a [u8], vlan: &mut Option<u16>) -> Result<(u16, &'a [u8]), Reject> {
    for _ in 0..NESTING_MAX {
        if !ETHERTYPES_VLAN.contains(&ethertype) {
            break;
        }
        let (tag, inner) = split(rest, 4)?;
        vlan.get_or_insert(be16(tag, 0)? & 0x0fff);
        ethertype = be16(tag, 2)?;
        rest = inner;
    }
    Ok((ethertype, rest))
}

fn by_ip_version(data: &[u8]) -> Result<u16, Reject> {
    match data.first().map(|byte| byte >> 4) {
        Some(4) => Ok(ETHERTYPE_IPV4),
        Some(6) => Ok(ETHERTYPE_IPV6),
        Some(_) => Err(Reject::IpVersion),
        None => Err(Reject::Short),
    }
}

fn arp(data: &[u8]) -> Result<Arp, Reject> {
    let (data, _) = split(data, ArpPacket::minimum_packet_size())?;
    let view = ArpPacket::new(data).ok_or(Reject::Short)?;
    let ethernet_ipv4 = (view.get_hardware_type().0, view.get_protocol_type().0) == (1, ETHERTYPE_IPV4);
    if !ethernet_ipv4 || (view.get_hw_addr_len(), view.get_proto_addr_len()) != (6, 4) {
        return Err(Reject::ArpKind);
    }
    Ok(Arp {
        operation: view.get_operation().0,
        sender_mac: Mac(view.get_sender_hw_addr().octets()),
        sender_ip: view.get_sender_proto_addr().into(),
        target_mac: Mac(view.get_target_hw_addr().octets()),
        target_ip: view.get_target_proto_addr().into(),
    })
}

/// `cut` is how many bytes the snap length took from the packet's end.
fn ipv4(data: &[u8], cut: usize) -> Result<Ip<'_>, Reject> {
    if data.first().ok_or(Reject::Short)? >> 4 != 4 {
        return Err(Reject::IpVersion);
    }
    let view = Ipv4Packet::new(data).ok_or(Reject::Short)?;
    let header_len = usize::from(view.get_header_length()) * 4;
    // A length of 0 is what segmentation offload leaves in packets that this host sends.
    let total_len = match usize::from(view.get_total_length()) {
        0 => data.len() + cut,
        total => total,
    };
    if header_len < 20 || total_len < header_len {
        return Err(Reject::IpLength);
    }
    if total_len > data.len() + cut {
        return Err(Reject::Short);
    }
    let body = data.get(header_len..total_len.min(data.len())).ok_or(Reject::Short)?;
    let protocol = view.get_next_level_protocol().0;
    let offset = view.get_fragment_offset();
    let fragment = offset != 0 || view.get_flags() & 0b001 != 0;
    let transport =
        if offset != 0 { Transport::Fragment(protocol) } else { transport(protocol, body, total_len - header_len, fragment)? };
    Ok(Ip { src: view.get_source().into(), dst: view.get_destination().into(), ttl: view.get_ttl(), fragment, transport })
}

fn ipv6(data: &[u8], cut: usize) -> Result<Ip<'_>, Reject> {
    if data.first().ok_or(Reject::Short)? >> 4 != 6 {
        return Err(Reject::IpVersion);
    }
    let view = Ipv6Packet::new(data).ok_or(Reject::Short)?;
    let payload_len = match usize::from(view.get_payload_length()) {
        0 => (data.len() + cut).saturating_sub(40),
        announced => announced,
    };
    if payload_len + 40 > data.len() + cut {
        return Err(Reject::Short);
    }
    let (src, dst, ttl) = (view.get_source(), view.get_destination(), view.get_hop_limit());
    let mut body = data.get(40..data.len().min(40 + payload_len)).ok_or(Reject::Short)?;
    let (mut next, mut left, mut fragment) = (view.get_next_header().0, payload_len, false);
    for _ in 0..NESTING_MAX {
        let extension_len = match next {
            // Hop-by-hop, routing, destination options, mobility (RFC 8200, 6275).
            0 | 43 | 60 | 135 => (usize::from(*body.get(1).ok_or(Reject::Short)?) + 1) * 8,
            44 => {
                let field = be16(body, 2)?;
                fragment = true;
                if field & 0xfff8 != 0 {
                    let transport = Transport::Fragment(*body.first().ok_or(Reject::Short)?);
                    return Ok(Ip { src: src.into(), dst: dst.into(), ttl, fragment, transport });
                }
                8
            }
            // Authentication header (RFC 4302).
            51 => (usize::from(*body.get(1).ok_or(Reject::Short)?) + 2) * 4,
            _ => break,
        };
        next = *body.first().ok_or(Reject::Short)?;
        left = left.checked_sub(extension_len).ok_or(Reject::IpLength)?;
        body = body.get(extension_len..).ok_or(Reject::Short)?;
    }
    Ok(Ip { src: src.into(), dst: dst.into(), ttl, fragment, transport: transport(next, body, left, fragment)? })
}

/// `len` is the length on the wire of what `body` holds the kept part of.
fn transport(protocol: u8, body: &[u8], len: usize, fragment: bool) -> Result<Transport<'_>, Reject> {
    let result = match protocol {
        PROTOCOL_TCP => tcp(body, len).map(Transport::Tcp),
        PROTOCOL_UDP => udp(body),
        PROTOCOL_ICMP => icmp(body).map(Transport::Icmp),
        PROTOCOL_ICMPV6 => icmpv6(body).map(Transport::Icmp),
        other => Ok(Transport::Other(other)),
    };
    // The first fragment may be too short to hold the whole header.
    if fragment && result == Err(Reject::Short) { Ok(Transport::Fragment(protocol)) } else { result }
}

fn tcp(body: &[u8], len: usize) -> Result<Tcp<'_>, Reject> {
    let view = TcpPacket::new(body).ok_or(Reject::Short)?;
    let header_len = usize::from(view.get_data_offset()) * 4;
    if header_len < 20 || header_len > len {
        return Err(Reject::TcpOffset);
    }
    Ok(Tcp {
        src_port: view.get_source(),
        dst_port: view.get_destination(),
        seq: view.get_sequence(),
        ack: view.get_acknowledgement(),
        flags: TcpFlags(view.get_flags()),
        window: view.get_window(),
        payload_len: u32::try_from(len - header_len).map_err(|_| Reject::IpLength)?,
        // Cut within the options, so no payload was kept.
        payload: body.get(header_len..).unwrap_or_default(),
    })
}

fn udp(body: &[u8]) -> Result<Transport<'_>, Reject> {
    Ok(Transport::Udp { src_port: be16(body, 0)?, dst_port: be16(body, 2)? })
}

fn icmp(body: &[u8]) -> Result<Icmp<'_>, Reject> {
    let (header, rest) = split(body, 8)?;
    let view = IcmpPacket::new(body).ok_or(Reject::Short)?;
    let icmp_type = view.get_icmp_type().0;
    let body = match icmp_type {
        0 | 8 => IcmpBody::Echo { request: icmp_type == 8, id: be16(header, 4)?, sequence: be16(header, 6)? },
        // Unreachable, source quench, redirect, time exceeded, parameter problem.
        3 | 4 | 5 | 11 | 12 => IcmpBody::Error(quoted_v4(rest)),
        _ => IcmpBody::Other(rest),
    };
    Ok(Icmp { v6: false, icmp_type, code: view.get_icmp_code().0, body })
}

fn icmpv6(body: &[u8]) -> Result<Icmp<'_>, Reject> {
    let (header, rest) = split(body, 8)?;
    let (icmp_type, code) = (*header.first().ok_or(Reject::Short)?, *header.get(1).ok_or(Reject::Short)?);
    let body = match icmp_type {
        128 | 129 => IcmpBody::Echo { request: icmp_type == 128, id: be16(header, 4)?, sequence: be16(header, 6)? },
        1..=4 => IcmpBody::Error(quoted_v6(rest)),
        135 => IcmpBody::NeighbourSolicitation(v6_at(rest, 0).ok_or(Reject::Short)?),
        136 => IcmpBody::NeighbourAdvertisement(v6_at(rest, 0).ok_or(Reject::Short)?, target_link_address(rest)),
        _ => IcmpBody::Other(rest),
    };
    Ok(Icmp { v6: true, icmp_type, code, body })
}

/// The option "target link-layer address" (RFC 4861, section 4.6.1) of a neighbour advertisement.
fn target_link_address(advertisement: &[u8]) -> Option<Mac> {
    let options = advertisement.get(16..)?;
    (options.first() == Some(&2) && options.get(1) == Some(&1)).then(|| mac(options, 2))?
}

/// The beginning of the packet that an ICMP error quotes: often no more than its IP header and eight bytes (RFC 792).
fn quoted_v4(data: &[u8]) -> Option<Quoted> {
    let header_len = usize::from(data.first()? & 0x0f) * 4;
    if data.first()? >> 4 != 4 || header_len < 20 {
        return None;
    }
    let octets = |at: usize| data.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let protocol = *data.get(9)?;
    let body = data.get(header_len..).unwrap_or_default();
    let echo_request = protocol == PROTOCOL_ICMP && body.first() == Some(&8);
    Some(Quoted {
        src: IpAddr::V4(Ipv4Addr::from(octets(12)?)),
        dst: IpAddr::V4(Ipv4Addr::from(octets(16)?)),
        protocol,
        ports: ports(protocol, body),
        echo: echo(echo_request, body),
    })
}

fn quoted_v6(data: &[u8]) -> Option<Quoted> {
    if data.first()? >> 4 != 6 {
        return None;
    }
    let protocol = *data.get(6)?;
    let body = data.get(40..).unwrap_or_default();
    let echo_request = protocol == PROTOCOL_ICMPV6 && body.first() == Some(&128);
    Some(Quoted { src: v6_at(data, 8)?, dst: v6_at(data, 24)?, protocol, ports: ports(protocol, body), echo: echo(echo_request, body) })
}

fn ports(protocol: u8, body: &[u8]) -> Option<(u16, u16)> {
    let carried = matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP);
    Some((be16(body, 0).ok()?, be16(body, 2).ok()?)).filter(|_| carried)
}

fn echo(is_request: bool, body: &[u8]) -> Option<(u16, u16)> {
    Some((be16(body, 4).ok()?, be16(body, 6).ok()?)).filter(|_| is_request)
}

fn v6_at(data: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 16] = data.get(at..at + 16)?.try_into().ok()?;
    Some(IpAddr::V6(Ipv6Addr::from(octets)))
}

fn mac(data: &[u8], at: usize) -> Option<Mac> {
    Some(Mac(data.get(at..at + 6)?.try_into().ok()?))
}

fn be16(data: &[u8], at: usize) -> Result<u16, Reject> {
    match data.get(at..at + 2) {
        Some(&[high, low]) => Ok(u16::from_be_bytes([high, low])),
        _ => Err(Reject::Short),
    }
}

fn split(data: &[u8], at: usize) -> Result<(&[u8], &[u8]), Reject> {
    data.split_at_checked(at).ok_or(Reject::Short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An Ethernet frame: a SYN from 10.0.0.1:40000 to 10.0.0.2:502, with 4 bytes of padding behind it.
    const SYN: &[u8] = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0\
        \x45\0\0\x28\0\x01\x40\0\x40\x06\0\0\x0a\0\0\x01\x0a\0\0\x02\
        \x9c\x40\x01\xf6\0\0\0\x05\0\0\0\0\x50\x02\xff\xff\0\0\0\0\0\0\0\0";

    fn whole(link_type: LinkType, data: &[u8]) -> Result<Decoded<'_>, Reject> {
        decode(link_type, data, data.len() as u32)
    }

    fn ip<'a>(decoded: &Decoded<'a>) -> Ip<'a> {
        match decoded.net {
            Net::Ip(ip) => ip,
            other => panic!("{other:?}"),
        }
    }

    fn tcp_of<'a>(decoded: &Decoded<'a>) -> Tcp<'a> {
        match ip(decoded).transport {
            Transport::Tcp(tcp) => tcp,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_syn_is_read_and_padding_is_no_payload() {
        let decoded = whole(LinkType::ETHERNET, SYN).unwrap();
        assert_eq!(decoded.src_mac, Some(Mac([2, 0, 0, 0, 0, 1])));
        assert_eq!(decoded.dst_mac.unwrap().to_string(), "02:00:00:00:00:02");
        assert_eq!((ip(&decoded).src.to_string(), ip(&decoded).dst.to_string()), ("10.0.0.1".to_owned(), "10.0.0.2".to_owned()));
        let tcp = tcp_of(&decoded);
        assert_eq!((tcp.src_port, tcp.dst_port, tcp.seq, tcp.payload_len), (40_000, 502, 5, 0));
        assert!(tcp.flags.syn() && !tcp.flags.ack() && tcp.payload.is_empty());
    }

    #[test]
    fn every_link_type_leads_to_the_same_segment() {
        let packet = &SYN[14..];
        let tagged = [&SYN[..12], b"\x88\xa8\0\x07\x81\0\x20\x05\x08\0", packet].concat();
        let sll = [b"\0\0\0\x01\0\x06\x02\0\0\0\0\x01\0\0\x08\0".as_slice(), packet].concat();
        let sll2 = [b"\x08\0\0\0\0\0\0\x03\0\x01\0\x06\x02\0\0\0\0\x01\0\0".as_slice(), packet].concat();
        let null = [b"\x02\0\0\0".as_slice(), packet].concat();
        let expected = ip(&whole(LinkType::ETHERNET, SYN).unwrap());
        for (link_type, data) in [
            (LinkType::ETHERNET, tagged.as_slice()),
            (LinkType::LINUX_SLL, &sll),
            (LinkType::LINUX_SLL2, &sll2),
            (LinkType::RAW, packet),
            (LinkType::NULL, &null),
        ] {
            assert_eq!(ip(&whole(link_type, data).unwrap()), expected, "{link_type:?}");
        }
        assert_eq!(whole(LinkType::ETHERNET, &tagged).unwrap().vlan, Some(7));
        assert_eq!(whole(LinkType(250), SYN), Err(Reject::LinkType));
    }

    #[test]
    fn lengths_that_cannot_be_are_rejected() {
        let changed = |at: usize, byte: u8| {
            let mut data = SYN.to_vec();
            data[at] = byte;
            whole(LinkType::ETHERNET, &data).err()
        };
        assert_eq!(changed(14, 0x35), Some(Reject::IpVersion));
        assert_eq!(changed(14, 0x44), Some(Reject::IpLength), "a header of 16 bytes");
        assert_eq!(changed(17, 0x10), Some(Reject::IpLength), "a total of 16 bytes");
        assert_eq!(changed(17, 0xff), Some(Reject::Short), "longer than the packet");
        assert_eq!(changed(46, 0x00), Some(Reject::TcpOffset));
        assert_eq!(changed(46, 0xf0), Some(Reject::TcpOffset), "past the end");
        assert_eq!(changed(14, 0x4f), Some(Reject::IpLength), "options past the end");
    }

    #[test]
    fn a_cut_packet_is_read_as_far_as_it_goes() {
        let payload = [0x55; 100];
        let mut packet = [&SYN[..54], &payload].concat();
        packet[16..18].copy_from_slice(&140_u16.to_be_bytes());
        let kept = &packet[..70];
        let decoded = decode(LinkType::ETHERNET, kept, packet.len() as u32).unwrap();
        assert_eq!((tcp_of(&decoded).payload_len, tcp_of(&decoded).payload.len()), (100, 16));
        assert_eq!(whole(LinkType::ETHERNET, kept), Err(Reject::Short), "the same bytes, but not cut by the recorder");
    }

    #[test]
    fn arp_tells_who_asks_for_whom() {
        let request = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\x06\
            \0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0\x01\x0a\0\0\x01\0\0\0\0\0\0\x0a\0\0\x09";
        let Net::Arp(arp) = whole(LinkType::ETHERNET, request).unwrap().net else { panic!() };
        assert_eq!((arp.operation, arp.sender_ip.to_string(), arp.target_ip.to_string()), (1, "10.0.0.1".into(), "10.0.0.9".into()));
    }

    #[test]
    fn an_icmp_error_names_the_packet_it_is_about() {
        let quoted = &SYN[14..42];
        let mut packet = b"\x45\0\0\x38\0\0\0\0\x40\x01\0\0\x0a\0\0\xfe\x0a\0\0\x01\x03\x0d\0\0\0\0\0\0".to_vec();
        packet.extend_from_slice(quoted);
        let decoded = whole(LinkType::RAW, &packet).unwrap();
        let Transport::Icmp(Icmp { icmp_type: 3, code: 13, body: IcmpBody::Error(Some(quoted)), .. }) = ip(&decoded).transport else {
            panic!("{decoded:?}")
        };
        assert_eq!((quoted.dst.to_string(), quoted.ports), ("10.0.0.2".to_owned(), Some((40_000, 502))));
    }

    #[test]
    fn fragments_are_told_and_only_the_first_has_ports() {
        let mut first = SYN[14..54].to_vec();
        first[6] = 0x20;
        assert!(matches!(ip(&whole(LinkType::RAW, &first).unwrap()), Ip { fragment: true, transport: Transport::Tcp(_), .. }));
        first[7] = 0x10;
        assert_eq!(ip(&whole(LinkType::RAW, &first).unwrap()).transport, Transport::Fragment(6));
    }

    #[test]
    fn ipv6_extension_headers_are_walked() {
        let mut packet = b"\x60\0\0\0\0\x1c\0\x40".to_vec();
        packet.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        packet.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        packet.extend_from_slice(b"\x06\0\x01\x04\0\0\0\0");
        packet.extend_from_slice(&SYN[34..54]);
        assert_eq!(tcp_of(&whole(LinkType::RAW, &packet).unwrap()).dst_port, 502);
    }

    proptest! {
        #[test]
        fn no_bytes_crash_the_decoder(link_type in prop::sample::select(vec![0_u16, 1, 12, 101, 113, 276]), data: Vec<u8>, cut in 0_u32..2000) {
            let _ = decode(LinkType(link_type), &data, data.len() as u32 + cut);
        }

        #[test]
        fn no_damage_to_a_real_frame_crashes_the_decoder(at in 0..SYN.len(), byte: u8, len in 0..=SYN.len(), cut in 0_u32..2000) {
            let mut data = SYN.to_vec();
            data[at] = byte;
            let _ = decode(LinkType::ETHERNET, &data[..len], len as u32 + cut);
        }
    }
}
