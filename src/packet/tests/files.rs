use super::made::{interface, packet};
use crate::packet::*;

/// Everything that a reader makes of these bytes: interface, time, length on the wire and data of each packet.
type Read = Vec<(u32, i64, u32, Vec<u8>)>;

fn read(bytes: &[u8]) -> (Read, Option<DamageKind>, Vec<RecordedInterface>) {
    let mut reader = Reader::new(bytes).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        packets.push((packet.interface, packet.unix_ns, packet.wire_len, packet.data.to_vec()));
        assert_eq!(packet.number, packets.len() as u64);
    }
    (packets, reader.damage().map(|damage| damage.kind), reader.interfaces().to_vec())
}

fn written() -> Vec<u8> {
    let section = SectionDescription {
        hardware: Some("amd64".into()),
        os: Some("Linux".into()),
        application: Some("netdiag".into()),
        comment: None,
    };
    let mut writer = Writer::new(Vec::new(), &section).unwrap();
    assert_eq!(writer.interface(&interface("eth0")).unwrap(), 0);
    assert_eq!(writer.interface(&interface("eth1")).unwrap(), 1);
    writer.packet(&packet(1, 1, 1_700_000_000_123_456_789, b"one")).unwrap();
    writer.packet_with_comment(&packet(2, 0, 1_700_000_000_123_456_790, b"four"), Some("look here")).unwrap();
    let dropped = InterfaceStatistics { received: 10, interface_dropped: 2, kernel_dropped: 3 };
    writer.statistics(1, 1_700_000_001_000_000_000, dropped).unwrap();
    assert_eq!(writer.bytes(), writer.sink_mut().len() as u64);
    writer.into_sink()
}

/// A pcapng block in either byte order.
fn block(big: bool, block_type: u32, body: &[u8]) -> Vec<u8> {
    let number = |number: u32| if big { number.to_be_bytes() } else { number.to_le_bytes() };
    let len = number(12 + body.len() as u32);
    [&number(block_type)[..], &len, body, &len].concat()
}

fn section(big: bool) -> Vec<u8> {
    let (magic, version) = match big {
        true => ([0x1a, 0x2b, 0x3c, 0x4d], [0, 1, 0, 0]),
        false => ([0x4d, 0x3c, 0x2b, 0x1a], [1, 0, 0, 0]),
    };
    block(big, 0x0a0d_0d0a, &[&magic[..], &version, &[0xff; 8]].concat())
}

#[test]
fn what_was_written_is_read_back() {
    let (packets, damage, interfaces) = read(&written());
    let expected = vec![(1, 1_700_000_000_123_456_789, 3, b"one".to_vec()), (0, 1_700_000_000_123_456_790, 4, b"four".to_vec())];
    assert_eq!((packets, damage), (expected, None));
    assert_eq!(interfaces.len(), 2);
    assert_eq!(interfaces[0].name.as_deref(), Some("eth0"));
    assert_eq!(interfaces[0].filter.as_deref(), Some("tcp port 502"));
    assert_eq!(
        (interfaces[1].received, interfaces[1].interface_dropped, interfaces[1].kernel_dropped),
        (Some(10), Some(2), Some(3))
    );
    assert_eq!(interfaces[0].kernel_dropped, None);
}

#[test]
fn a_file_cut_anywhere_gives_the_packets_before_the_cut_and_says_so() {
    let whole = written();
    let (all, ..) = read(&whole);
    let mut damaged = 0;
    for cut in 0..whole.len() {
        let (packets, damage, _) = read(&whole[..cut]);
        assert!(all.starts_with(&packets), "cut at {cut}");
        damaged += usize::from(damage.is_some());
        if cut == 0 {
            assert_eq!(damage, Some(DamageKind::Empty));
        }
    }
    // Only at the six places where a block ends is a cut file a whole one.
    assert_eq!(damaged, whole.len() - 5);
}

#[test]
fn both_byte_orders_of_pcapng_are_read_with_unknown_blocks_skipped() {
    for big in [false, true] {
        let n2 = |number: u16| if big { number.to_be_bytes() } else { number.to_le_bytes() };
        let n4 = |number: u32| if big { number.to_be_bytes() } else { number.to_le_bytes() };
        let eth = [&n2(1)[..], &n2(0), &n4(96), &n2(9), &n2(1), &[6, 0, 0, 0], &n4(0)].concat();
        let raw = [&n2(101)[..], &n2(0), &n4(0), &n2(9), &n2(1), &[0x80 | 10, 0, 0, 0]].concat();
        let enhanced = [&n4(1)[..], &n4(0), &n4((3 << 10) | 512), &n4(3), &n4(9), b"abc\0"].concat();
        let obsolete = [&n2(0)[..], &n2(7), &n4(0), &n4(5), &n4(2), &n4(2), b"de\0\0"].concat();
        let simple = [&n4(100)[..], &[7; 96]].concat();
        let file = [
            section(big),
            block(big, 1, &eth),
            block(big, 0xfeed, &[1; 1_000_000]),
            block(big, 1, &raw),
            block(big, 6, &enhanced),
            block(big, 4, &[0; 4]),
            block(big, 10, &[0; 4]),
            block(big, 0x8000_0001, &[]),
            block(big, 2, &obsolete),
            block(big, 3, &simple),
        ]
        .concat();
        let (packets, damage, interfaces) = read(&file);
        assert_eq!(damage, None);
        assert_eq!(interfaces.iter().map(|interface| interface.link_type).collect::<Vec<_>>(), [LinkType::ETHERNET, LinkType::RAW]);
        let expected = vec![(1, 3_500_000_000, 9, b"abc".to_vec()), (0, 5_000, 2, b"de".to_vec()), (0, 5_000, 100, vec![7; 96])];
        assert_eq!(packets, expected, "big endian: {big}");
    }
}

#[test]
fn packets_are_numbered_as_wireshark_does_which_counts_custom_blocks() {
    let mut file = section(false);
    file.extend(block(false, 1, &[1, 0, 0, 0, 0, 0, 0, 0]));
    file.extend(block(false, 0xbad, &[0; 8]));
    file.extend(block(false, 3, &[0; 4]));
    let mut reader = Reader::new(&file[..]).unwrap();
    assert_eq!(reader.next_packet().unwrap().map(|packet| packet.number), Some(2));
    assert_eq!((reader.packets(), reader.numbered()), (1, 2));
}

#[test]
fn joined_files_are_sections_whose_interfaces_are_numbered_on() {
    let (packets, damage, interfaces) = read(&[written(), written()].concat());
    assert_eq!(damage, None);
    assert_eq!(packets.iter().map(|packet| packet.0).collect::<Vec<_>>(), [1, 0, 3, 2]);
    assert_eq!(interfaces.len(), 4);
}

#[test]
fn every_kind_of_pcap_is_read() {
    for (magic, unit, header_len) in [(0xa1b2_c3d4_u32, 1000, 16), (0xa1b2_3c4d, 1, 16), (0xa1b2_cd34, 1000, 24)] {
        for big in [false, true] {
            let n4 = |number: u32| if big { number.to_be_bytes() } else { number.to_le_bytes() };
            let mut file = [&n4(magic)[..], &[0; 12], &n4(65535), &n4(0x5000_0001)].concat();
            file.extend([n4(1_700_000_000), n4(42), n4(3), n4(60)].concat());
            file.resize(24 + header_len, 0);
            file.extend(b"abc");
            let (packets, damage, interfaces) = read(&file);
            assert_eq!(packets, [(0, 1_700_000_000_000_000_000 + 42 * unit, 60, b"abc".to_vec())]);
            assert_eq!((damage, interfaces[0].link_type, interfaces[0].snaplen), (None, LinkType::ETHERNET, 65535));
        }
    }
}

#[test]
fn lengths_that_no_packet_has_end_the_file_without_being_believed() {
    let pcap = [&0xa1b2_c3d4_u32.to_le_bytes()[..], &[0; 12], &[0xff, 0xff, 0, 0], &[1, 0, 0, 0], &[0; 8], &[0xff; 8]].concat();
    assert_eq!(read(&pcap).1, Some(DamageKind::PacketLength(u32::MAX)));

    let lie = [&0_u32.to_le_bytes()[..], &[0; 8], &u32::MAX.to_le_bytes(), &[0; 4]].concat();
    let described = [section(false), block(false, 1, &[1, 0, 0, 0, 0, 0, 0, 0])].concat();
    let with = |rest: &[u8]| read(&[&described[..], rest].concat()).1;
    assert_eq!(with(&block(false, 6, &lie)), Some(DamageKind::PacketLength(u32::MAX)));
    assert_eq!(with(&block(false, 6, &[1; 20])), Some(DamageKind::UnknownInterface(0x0101_0101)));
    assert_eq!(with(&block(false, 6, &[0; 8])), Some(DamageKind::BlockLength(20)));
    assert_eq!(with(&[6, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff, 0, 0, 0, 0]), Some(DamageKind::BlockLength(0xffff_fffc)));
    assert_eq!(with(&[6, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, 0]), Some(DamageKind::BlockLength(13)));
    assert_eq!(with(&[9, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff, 0, 0, 0, 0]), Some(DamageKind::Truncated));
    assert_eq!(read(b"#!/bin/sh").1, Some(DamageKind::NotACapture(*b"#!/b")));
    assert_eq!(read(&[0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 1, 2, 3, 4]).1, Some(DamageKind::ByteOrder(0x0102_0304)));
}

#[test]
fn describing_interfaces_without_end_is_stopped() {
    let mut file = section(false);
    for _ in 0..5000 {
        file.extend(block(false, 1, &[1, 0, 0, 0, 0, 0, 0, 0]));
    }
    let (_, damage, interfaces) = read(&file);
    assert_eq!((damage, interfaces.len()), (Some(DamageKind::TooManyInterfaces), 4096));
}

#[test]
fn a_packet_of_an_interface_that_was_not_described_is_refused() {
    let mut writer = Writer::new(Vec::new(), &SectionDescription::default()).unwrap();
    assert!(writer.packet(&packet(1, 0, 0, b"x")).is_err());
}

#[test]
fn a_packet_takes_the_bytes_that_are_announced() {
    let mut writer = Writer::new(Vec::new(), &SectionDescription::default()).unwrap();
    writer.interface(&interface("eth0")).unwrap();
    for len in [0, 1, 4, 61] {
        let before = writer.bytes();
        writer.packet(&packet(1, 0, 0, &vec![0; len])).unwrap();
        assert_eq!(writer.bytes() - before, Writer::<Vec<u8>>::packet_bytes(len));
    }
}
