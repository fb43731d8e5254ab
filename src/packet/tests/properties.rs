use super::made::{ethernet, interface, ipv4, ipv6, tcp};
use crate::packet::*;
use proptest::prelude::*;
use std::io::{self, Read};

/// A source that gives a few bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.1.min(self.0.len()).min(buffer.len());
        buffer[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        Ok(len)
    }
}

fn link_types() -> impl Strategy<Value = LinkType> {
    prop_oneof![
        Just(LinkType::NULL),
        Just(LinkType::ETHERNET),
        Just(LinkType::RAW),
        Just(LinkType::LINUX_SLL),
        Just(LinkType::LINUX_SLL2),
        any::<u16>().prop_map(LinkType),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(link_type in link_types(), data in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Decoded { net: Net::Ip(Ip { transport: Transport::Tcp(tcp), .. }), .. }) = decode(link_type, &data) {
            tcp.options();
        }
    }

    #[test]
    fn a_good_packet_with_bytes_changed_never_panics_nor_reads_past_its_end(
        v6: bool,
        protocol in prop_oneof![Just(6_u8), Just(17), Just(1), Just(58), Just(0), Just(44), any::<u8>()],
        payload in prop::collection::vec(any::<u8>(), 0..80),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut data = if v6 { ethernet(0x86dd, &ipv6(protocol, &payload)) } else { ethernet(0x0800, &ipv4(protocol, &payload)) };
        for (index, value) in changes {
            let index = index.index(data.len());
            data[index] = value;
        }
        let data = &data[..=cut.index(data.len())];
        if let Ok(Decoded { net: Net::Ip(Ip { transport: Transport::Tcp(tcp), .. }), cut, .. }) = decode(LinkType::ETHERNET, data) {
            tcp.options();
            prop_assert!(tcp.payload.len() <= data.len());
            prop_assert!(tcp.payload.len() as u32 <= tcp.payload_len);
            prop_assert!(cut || tcp.payload.len() as u32 == tcp.payload_len);
        }
    }

    #[test]
    fn cutting_a_packet_only_shortens_its_payload(payload in prop::collection::vec(any::<u8>(), 0..100), cut in 54_usize..160) {
        let data = ethernet(0x0800, &ipv4(6, &tcp(0x18, &[], &payload)));
        let cut = cut.min(data.len());
        let decoded = decode(LinkType::ETHERNET, &data[..cut]).unwrap();
        let Net::Ip(Ip { transport: Transport::Tcp(segment), .. }) = decoded.net else { panic!("{decoded:?}") };
        prop_assert_eq!(decoded.cut, cut < data.len());
        prop_assert_eq!(segment.payload_len as usize, payload.len());
        prop_assert_eq!(segment.payload, &payload[..cut - 54]);
    }

    #[test]
    fn any_packets_round_trip_through_a_file_however_it_is_read(
        packets in prop::collection::vec(
            (0_u32..3, 0_i64..i64::MAX, any::<u32>(), prop::collection::vec(any::<u8>(), 0..300), prop::option::of(".{0,40}")),
            0..20,
        ),
        at_once in 1_usize..50,
    ) {
        let mut writer = Writer::new(Vec::new(), &SectionDescription::default()).unwrap();
        for name in ["a", "eth0.100", ""] {
            writer.interface(&interface(name)).unwrap();
        }
        for (interface, unix_ns, wire_len, data, comment) in &packets {
            let packet = Packet { number: 0, unix_ns: *unix_ns, interface: *interface, link_type: LinkType::ETHERNET, wire_len: *wire_len, data };
            writer.packet_with_comment(&packet, comment.as_deref()).unwrap();
        }
        let file = writer.into_sink();
        let mut reader = Reader::new(Trickle(&file, at_once)).unwrap();
        for (interface, unix_ns, wire_len, data, _) in &packets {
            let packet = reader.next_packet().unwrap().unwrap();
            prop_assert_eq!((packet.interface, packet.unix_ns, packet.wire_len, packet.data), (*interface, *unix_ns, *wire_len, &data[..]));
        }
        prop_assert!(reader.next_packet().unwrap().is_none());
        prop_assert_eq!(reader.damage(), None);
    }

    #[test]
    fn no_bytes_make_the_reader_panic_or_run_for_ever(
        ng: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..10),
        tail in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut file = if ng {
            let mut writer = Writer::new(Vec::new(), &SectionDescription::default()).unwrap();
            writer.interface(&interface("eth0")).unwrap();
            for number in 0..4 {
                writer.packet(&super::made::packet(number, 0, 5, b"some bytes")).unwrap();
            }
            writer.into_sink()
        } else {
            let mut file = [&0xa1b2_3c4d_u32.to_le_bytes()[..], &[0; 12], &[0xff, 0xff, 0, 0, 1, 0, 0, 0]].concat();
            for _ in 0..4 {
                file.extend([&[0; 8][..], &[4, 0, 0, 0, 4, 0, 0, 0], b"data"].concat());
            }
            file
        };
        for (index, value) in changes {
            let index = index.index(file.len());
            file[index] = value;
        }
        file.extend(tail);
        let mut reader = Reader::new(&file[..]).unwrap();
        let mut packets = 0;
        while reader.next_packet().unwrap().is_some() {
            packets += 1;
        }
        prop_assert!(packets <= file.len() / 16);
        prop_assert!(reader.bytes() <= file.len() as u64);
    }
}
