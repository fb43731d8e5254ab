//! How many packets a second are decoded, read from a file and written to one. Run with `cargo bench --bench packet`.

#![allow(clippy::unwrap_used)]

use divan::{Bencher, black_box, counter::ItemsCount};
use netdiag::packet::{InterfaceDescription, LinkType, Packet, Reader, SectionDescription, Writer, decode};

const PACKETS: u64 = 100_000;

fn main() {
    divan::main();
}

/// A Modbus request in an Ethernet frame, with or without a VLAN tag and TCP time stamps.
fn frame(vlan: bool) -> Vec<u8> {
    let tag: &[u8] = if vlan { &[0x81, 0, 0, 7] } else { &[] };
    let mut frame = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], tag, &[8, 0]].concat();
    frame.extend([0x45, 0, 0, 64, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x9c, 0x40, 0x01, 0xf6, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, 0x18, 1, 0xf6, 0, 0, 0, 0]);
    frame.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    frame.extend([0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 10]);
    frame
}

fn pcapng() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &SectionDescription::default()).unwrap();
    let name = "eth0".to_owned();
    writer.interface(&InterfaceDescription { name, link_type: LinkType::ETHERNET, snaplen: 0, filter: None }).unwrap();
    write_packets(&mut writer);
    writer.into_sink()
}

fn pcap() -> Vec<u8> {
    let data = frame(false);
    let mut file = [&0xa1b2_c3d4_u32.to_le_bytes()[..], &[2, 0, 4, 0], &[0; 8], &[0, 0, 4, 0], &[1, 0, 0, 0]].concat();
    for _ in 0..PACKETS {
        file.extend([&[0; 8][..], &(data.len() as u32).to_le_bytes(), &(data.len() as u32).to_le_bytes(), &data].concat());
    }
    file
}

fn write_packets(writer: &mut Writer<Vec<u8>>) {
    let data = frame(false);
    for number in 1..=PACKETS {
        let wire_len = data.len() as u32;
        let packet = Packet { number, unix_ns: number as i64, interface: 0, link_type: LinkType::ETHERNET, wire_len, data: &data };
        writer.packet(&packet).unwrap();
    }
}

#[divan::bench(args = [false, true])]
fn decode_tcp(bencher: Bencher<'_, '_>, vlan: bool) {
    let data = frame(vlan);
    bencher.counter(ItemsCount::new(PACKETS)).bench(|| {
        for _ in 0..PACKETS {
            let _ = black_box(decode(LinkType::ETHERNET, black_box(&data)));
        }
    });
}

#[divan::bench]
fn read_pcap(bencher: Bencher<'_, '_>) {
    read(bencher, &pcap());
}

#[divan::bench]
fn read_pcapng(bencher: Bencher<'_, '_>) {
    read(bencher, &pcapng());
}

fn read(bencher: Bencher<'_, '_>, file: &[u8]) {
    bencher.counter(ItemsCount::new(PACKETS)).bench(|| {
        let mut reader = Reader::new(file).unwrap();
        while let Some(packet) = reader.next_packet().unwrap() {
            black_box(packet);
        }
        assert_eq!(reader.packets(), PACKETS);
    });
}

#[divan::bench]
fn read_pcapng_and_decode(bencher: Bencher<'_, '_>) {
    let file = pcapng();
    bencher.counter(ItemsCount::new(PACKETS)).bench(|| {
        let mut reader = Reader::new(&file[..]).unwrap();
        while let Some(packet) = reader.next_packet().unwrap() {
            let _ = black_box(decode(packet.link_type, packet.data));
        }
    });
}

#[divan::bench]
fn write_pcapng(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(PACKETS)).bench(pcapng);
}
