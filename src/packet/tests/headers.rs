use super::made::*;
use crate::packet::*;
use std::net::IpAddr;

fn ip<'a>(decoded: &Decoded<'a>) -> Ip<'a> {
    match decoded.net {
        Net::Ip(ip) => ip,
        other => panic!("not IP: {other:?}"),
    }
}

fn tcp_of(link_type: LinkType, data: &[u8]) -> Tcp<'_> {
    match ip(&decode(link_type, data).unwrap()).transport {
        Transport::Tcp(tcp) => tcp,
        other => panic!("not TCP: {other:?}"),
    }
}

fn icmp_of(data: &[u8]) -> Icmp<'_> {
    match ip(&decode(LinkType::ETHERNET, data).unwrap()).transport {
        Transport::Icmp(icmp) => icmp,
        other => panic!("not ICMP: {other:?}"),
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_tcp_segment_is_read_field_by_field() {
    let data = ethernet(0x0800, &ipv4(6, &tcp(0x18, &[], b"hello")));
    let decoded = decode(LinkType::ETHERNET, &data).unwrap();
    assert_eq!((decoded.vlan, decoded.cut), (None, false));
    assert_eq!((decoded.src_mac, decoded.dst_mac), (Some(SRC_MAC.into()), Some(DST_MAC.into())));
    let ip = ip(&decoded);
    assert_eq!((ip.src, ip.dst, ip.ttl, ip.protocol, ip.fragment), (address("10.0.0.1"), address("10.0.0.2"), 64, 6, None));
    let Transport::Tcp(tcp) = ip.transport else { panic!("{ip:?}") };
    assert_eq!((tcp.src_port, tcp.dst_port, tcp.seq, tcp.ack, tcp.window), (40000, 502, 1000, 2000, 512));
    assert_eq!((tcp.payload, tcp.payload_len, tcp.sequence_len()), (&b"hello"[..], 5, 5));
    assert!(tcp.flags.ack() && tcp.flags.psh() && !tcp.flags.syn() && !tcp.flags.fin() && !tcp.flags.rst());
}

#[test]
fn padding_of_short_frames_is_no_payload() {
    let mut data = ethernet(0x0800, &ipv4(6, &tcp(0x10, &[], &[])));
    data.resize(60, 0xee);
    assert_eq!(tcp_of(LinkType::ETHERNET, &data).payload_len, 0);
    assert!(!decode(LinkType::ETHERNET, &data).unwrap().cut);
}

#[test]
fn every_link_header_leads_to_the_same_segment() {
    let packet = ipv4(6, &tcp(0x10, &[], b"x"));
    let packet_v6 = ipv6(6, &tcp(0x10, &[], b"x"));
    let with = |header: &[u8], packet: &[u8]| [header, packet].concat();
    let sll = [0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0];
    let sll2 = [8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
    let snap = |payload: &[u8]| {
        let llc = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], payload].concat();
        ethernet(llc.len() as u16, &llc)
    };
    let cases = [
        (LinkType::ETHERNET, ethernet(0x0800, &packet), Some(SRC_MAC), None),
        (LinkType::ETHERNET, ethernet(0x86dd, &packet_v6), Some(SRC_MAC), None),
        (LinkType::ETHERNET, ethernet(0x8100, &with(&[0x60, 7, 8, 0], &packet)), Some(SRC_MAC), Some(7)),
        (LinkType::ETHERNET, ethernet(0x88a8, &with(&[0, 9, 0x81, 0, 0, 7, 8, 0], &packet)), Some(SRC_MAC), Some(9)),
        (LinkType::ETHERNET, snap(&packet), Some(SRC_MAC), None),
        (LinkType::LINUX_SLL, with(&sll, &packet), Some(SRC_MAC), None),
        (LinkType::LINUX_SLL2, with(&sll2, &packet), Some(SRC_MAC), None),
        (LinkType::NULL, with(&[2, 0, 0, 0], &packet), None, None),
        (LinkType::NULL, with(&[0, 0, 0, 2], &packet), None, None),
        (LinkType::NULL, with(&[30, 0, 0, 0], &packet_v6), None, None),
        (LinkType::LOOP, with(&[0, 0, 0, 24], &packet_v6), None, None),
        (LinkType::RAW, packet.clone(), None, None),
        (LinkType::RAW, packet_v6.clone(), None, None),
    ];
    for (link_type, data, src_mac, vlan) in &cases {
        let decoded = decode(*link_type, data).unwrap();
        assert_eq!((decoded.src_mac, decoded.vlan), (src_mac.map(MacAddr::from), *vlan), "{link_type:?} {data:02x?}");
        assert_eq!(tcp_of(*link_type, data).payload, b"x", "{link_type:?} {data:02x?}");
    }
}

#[test]
fn an_802_3_frame_is_llc_without_its_padding() {
    let mut data = ethernet(3, &[0x42, 0x42, 3]);
    data.resize(60, 0);
    assert_eq!(decode(LinkType::ETHERNET, &data).unwrap().net, Net::Llc(&[0x42, 0x42, 3]));
}

#[test]
fn an_arp_request_tells_who_asks_for_whom() {
    let message = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 9];
    let data = ethernet(0x0806, &message);
    let Net::Arp(arp) = decode(LinkType::ETHERNET, &data).unwrap().net else { panic!("not ARP") };
    assert_eq!(arp.operation, ArpOperation::Request);
    assert_eq!((arp.sender_mac, arp.sender_ip.octets()), (SRC_MAC.into(), [10, 0, 0, 1]));
    assert_eq!((arp.target_mac, arp.target_ip.octets()), (MacAddr::zero(), [10, 0, 0, 9]));

    let mut token_ring = data.clone();
    token_ring[15] = 6;
    assert_eq!(decode(LinkType::ETHERNET, &token_ring), Err(Reject::ArpFormat));
    assert_eq!(decode(LinkType::ETHERNET, &data[..41]), Err(Reject::ArpHeader));
}

#[test]
fn ipv4_options_are_skipped() {
    let data = ethernet(0x0800, &ipv4_with(6, 0, &[1; 40], &tcp(0x10, &[], b"far")));
    assert_eq!(tcp_of(LinkType::ETHERNET, &data).payload, b"far");
}

#[test]
fn fragments_are_flagged_and_only_the_first_has_a_transport() {
    let first = ethernet(0x0800, &ipv4_with(17, 0x2000, &[], &[0x9c, 0x40, 0, 53, 0x10, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]));
    let first_ip = ip(&decode(LinkType::ETHERNET, &first).unwrap());
    assert_eq!(first_ip.fragment, Some(Fragment { identification: 0x1234, offset: 0, more: true }));
    let Transport::Udp(udp) = first_ip.transport else { panic!("{first_ip:?}") };
    assert_eq!((udp.payload.len(), udp.payload_len), (8, 0x1000 - 8));

    let later = ethernet(0x0800, &ipv4_with(17, 0x0002, &[], &[0; 8]));
    let later_ip = ip(&decode(LinkType::ETHERNET, &later).unwrap());
    assert_eq!(later_ip.fragment, Some(Fragment { identification: 0x1234, offset: 16, more: false }));
    assert_eq!(later_ip.transport, Transport::Fragment);

    let tiny = ethernet(0x0800, &ipv4_with(6, 0x2000, &[], &[0; 8]));
    assert_eq!(ip(&decode(LinkType::ETHERNET, &tiny).unwrap()).transport, Transport::Fragment);
}

#[test]
fn ipv6_extension_headers_are_skipped_and_fragments_flagged() {
    let segment = tcp(0x02, &[], &[]);
    let extended = [&[43, 0, 0, 0, 0, 0, 0, 0][..], &[60, 1], &[0; 14], &[6, 0, 1, 4, 0, 0, 0, 0], &segment].concat();
    let data = ethernet(0x86dd, &ipv6(0, &extended));
    let decoded = ip(&decode(LinkType::ETHERNET, &data).unwrap());
    assert_eq!((decoded.protocol, decoded.fragment, decoded.ttl), (6, None, 63));
    assert!(matches!(decoded.transport, Transport::Tcp(tcp) if tcp.flags.syn()));

    let later = [&[6, 0, 0, 0x10, 0, 0, 0, 5][..], &[0; 8]].concat();
    let data = ethernet(0x86dd, &ipv6(44, &later));
    let decoded = ip(&decode(LinkType::ETHERNET, &data).unwrap());
    assert_eq!(decoded.fragment, Some(Fragment { identification: 5, offset: 16, more: false }));
    assert_eq!((decoded.protocol, decoded.transport), (6, Transport::Fragment));

    let atomic = [&[6, 0, 0, 0, 0, 0, 0, 5][..], &segment].concat();
    let data = ethernet(0x86dd, &ipv6(44, &atomic));
    assert!(matches!(ip(&decode(LinkType::ETHERNET, &data).unwrap()).transport, Transport::Tcp(_)));

    let too_long = ethernet(0x86dd, &ipv6(0, &[6, 200, 0, 0, 0, 0, 0, 0]));
    assert_eq!(decode(LinkType::ETHERNET, &too_long), Err(Reject::Ipv6Extension));
}

#[test]
fn tcp_options_are_read_and_bad_ones_told() {
    let syn = tcp(0x02, &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7], &[]);
    let data = ethernet(0x0800, &ipv4(6, &syn));
    let options = tcp_of(LinkType::ETHERNET, &data).options();
    assert_eq!((options.max_segment_size, options.window_scale, options.sack_permitted), (Some(1460), Some(7), true));
    assert_eq!((options.timestamps, options.malformed), (Some((1, 2)), false));

    let sack = tcp(0x10, &[1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4], &[]);
    let data = ethernet(0x0800, &ipv4(6, &sack));
    assert_eq!(tcp_of(LinkType::ETHERNET, &data).options().sack.as_slice(), &[(1, 2), (3, 4)]);

    for bad in [[2, 0, 0, 0], [2, 1, 0, 0], [8, 10, 0, 0], [1, 1, 1, 2], [2, 3, 0, 0]] {
        let data = ethernet(0x0800, &ipv4(6, &tcp(0x10, &bad, &[])));
        assert!(tcp_of(LinkType::ETHERNET, &data).options().malformed, "{bad:?}");
    }
}

#[test]
fn impossible_lengths_are_rejected_by_name() {
    let good = ethernet(0x0800, &ipv4(6, &tcp(0x10, &[], b"abcd")));
    let broken = |offset: usize, value: u8| {
        let mut data = good.clone();
        data[offset] = value;
        decode(LinkType::ETHERNET, &data).map(|_| ())
    };
    assert_eq!(broken(14, 0x55), Err(Reject::IpVersion));
    assert_eq!(broken(14, 0x40), Err(Reject::Ipv4HeaderLength));
    assert_eq!(broken(17, 19), Err(Reject::Ipv4TotalLength));
    assert_eq!(broken(17, 39), Err(Reject::TcpHeader));
    assert_eq!(broken(14 + 20 + 12, 0x40), Err(Reject::TcpDataOffset));
    assert_eq!(broken(14 + 20 + 12, 0xf0), Err(Reject::TcpDataOffset));
    assert_eq!(decode(LinkType::ETHERNET, &good[..13]), Err(Reject::LinkHeader));
    assert_eq!(decode(LinkType::ETHERNET, &ethernet(0x8100, &[0, 1])), Err(Reject::VlanTag));
    assert_eq!(decode(LinkType(147), &good), Err(Reject::LinkType));
    assert_eq!(decode(LinkType::RAW, &[0x50; 40]), Err(Reject::IpVersion));

    let mut datagram = ethernet(0x0800, &ipv4(17, &udp(b"abcd")));
    datagram[14 + 20 + 5] = 13;
    assert_eq!(decode(LinkType::ETHERNET, &datagram), Err(Reject::UdpLength));
    datagram[14 + 20 + 5] = 7;
    assert_eq!(decode(LinkType::ETHERNET, &datagram), Err(Reject::UdpLength));
    assert_eq!(decode(LinkType::ETHERNET, &ethernet(0x0800, &ipv4(1, &[8, 0, 0]))), Err(Reject::IcmpHeader));
}

#[test]
fn a_total_length_of_zero_is_a_packet_that_the_network_card_was_to_cut() {
    let mut data = ethernet(0x0800, &ipv4(6, &tcp(0x10, &[], &[7; 3000])));
    data[16..18].copy_from_slice(&[0, 0]);
    assert_eq!(tcp_of(LinkType::ETHERNET, &data).payload_len, 3000);
}

#[test]
fn what_the_snap_length_cut_is_decoded_as_far_as_it_goes() {
    let data = ethernet(0x0800, &ipv4(6, &tcp(0x18, &[1; 12], &[9; 100])));
    let decoded = decode(LinkType::ETHERNET, &data[..76]).unwrap();
    let Transport::Tcp(tcp) = ip(&decoded).transport else { panic!("{decoded:?}") };
    assert!(decoded.cut);
    assert_eq!((tcp.payload.len(), tcp.payload_len), (10, 100));

    // Within the options, and within the TCP header.
    let decoded = decode(LinkType::ETHERNET, &data[..60]).unwrap();
    let Transport::Tcp(tcp) = ip(&decoded).transport else { panic!("{decoded:?}") };
    assert_eq!((tcp.raw_options.len(), tcp.payload.len(), tcp.payload_len), (6, 0, 100));
    let decoded = decode(LinkType::ETHERNET, &data[..44]).unwrap();
    assert_eq!((decoded.cut, ip(&decoded).transport), (true, Transport::Cut));

    let extended = [&[6, 1][..], &[0; 14], &super::made::tcp(0x10, &[], &[])].concat();
    let data = ethernet(0x86dd, &ipv6(0, &extended));
    let decoded = decode(LinkType::ETHERNET, &data[..14 + 40 + 9]).unwrap();
    assert_eq!((decoded.cut, ip(&decoded).transport), (true, Transport::Cut));
}

#[test]
fn echoes_are_told_by_identifier_and_sequence() {
    for (protocol, icmp_type, reply) in [(1, 8, false), (1, 0, true), (58, 128, false), (58, 129, true)] {
        let message = [icmp_type, 0, 0, 0, 0x12, 0x34, 0, 7, 1, 2, 3];
        let data = match protocol {
            1 => ethernet(0x0800, &ipv4(protocol, &message)),
            _ => ethernet(0x86dd, &ipv6(protocol, &message)),
        };
        assert_eq!(icmp_of(&data).body, IcmpBody::Echo { reply, identifier: 0x1234, sequence: 7 });
    }
}

#[test]
fn icmp_errors_quote_what_did_not_arrive() {
    let lost = ipv4(6, &tcp(0x02, &[], &[]));
    let data = ethernet(0x0800, &ipv4(1, &[&[3, 13, 0, 0, 0, 0, 0, 0], &lost[..28]].concat()));
    let icmp = icmp_of(&data);
    assert_eq!((icmp.icmp_type, icmp.code, icmp.is_v6), (3, 13, false));
    let IcmpBody::Error { mtu: None, quoted: Some(quoted) } = icmp.body else { panic!("{icmp:?}") };
    assert_eq!((quoted.src, quoted.dst, quoted.protocol), (address("10.0.0.1"), address("10.0.0.2"), 6));
    assert_eq!((quoted.ports, quoted.tcp_seq, quoted.echo), (Some((40000, 502)), Some(1000), None));

    let too_big = ethernet(0x0800, &ipv4(1, &[&[3, 4, 0, 0, 0, 0, 0x05, 0xdc], &lost[..]].concat()));
    assert!(matches!(icmp_of(&too_big).body, IcmpBody::Error { mtu: Some(1500), .. }));

    let lost = ipv6(58, &[128, 0, 0, 0, 0, 9, 0, 4]);
    let data = ethernet(0x86dd, &ipv6(58, &[&[1, 0, 0, 0, 0, 0, 0, 0], &lost[..]].concat()));
    let IcmpBody::Error { quoted: Some(quoted), .. } = icmp_of(&data).body else { panic!("no quotation") };
    assert_eq!((quoted.dst, quoted.ports, quoted.echo), (address("2001:db8::2"), None, Some((9, 4))));

    let short = ethernet(0x0800, &ipv4(1, &[3, 1, 0, 0, 0, 0, 0, 0, 0x45, 0]));
    assert_eq!(icmp_of(&short).body, IcmpBody::Error { mtu: None, quoted: None });
}

#[test]
fn redirects_name_the_better_router() {
    let lost = ipv4(6, &tcp(0x02, &[], &[]));
    let data = ethernet(0x0800, &ipv4(1, &[&[5, 1, 0, 0, 10, 0, 0, 254], &lost[..]].concat()));
    let expected = IcmpBody::Redirect { gateway: address("10.0.0.254"), destination: Some(address("10.0.0.2")) };
    assert_eq!(icmp_of(&data).body, expected);
}

#[test]
fn neighbour_discovery_tells_target_and_mac() {
    let target = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let solicit = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target, &[1, 1], &SRC_MAC].concat();
    let advert = [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &target, &[14, 1, 0, 0, 0, 0, 0, 0, 2, 1], &DST_MAC].concat();
    let data = ethernet(0x86dd, &ipv6(58, &solicit));
    let expected = IcmpBody::NeighborSolicit { target: target.into(), source_mac: Some(SRC_MAC.into()) };
    assert_eq!(icmp_of(&data).body, expected);
    let data = ethernet(0x86dd, &ipv6(58, &advert));
    let expected = IcmpBody::NeighborAdvert { target: target.into(), target_mac: Some(DST_MAC.into()), solicited: true };
    assert_eq!(icmp_of(&data).body, expected);

    let endless = [&[136, 0, 0, 0, 0, 0, 0, 0][..], &target, &[2, 0, 0, 0]].concat();
    let data = ethernet(0x86dd, &ipv6(58, &endless));
    assert!(matches!(icmp_of(&data).body, IcmpBody::NeighborAdvert { target_mac: None, .. }));
}
