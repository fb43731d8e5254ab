//! The first look: packets a second through the whole analysis, on a Modbus capture made in memory.
//!
//! `cargo bench --bench analysis`

#![allow(clippy::unwrap_used, clippy::expect_used)]

use divan::{Bencher, counter::ItemsCount};
use netdiag::{
    analysis::{Analysis, AnalysisSettings, Watch},
    api::{Direction, Protocol},
    packet::{LinkType, Packet, PacketSink},
};
use std::net::{IpAddr, Ipv4Addr};

const DEVICES: u16 = 100;
/// Requests and answers in turn.
const PACKETS: u32 = 200_000;

fn main() {
    divan::main();
}

/// An Ethernet frame with one TCP segment.
fn frame(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    bytes.extend_from_slice(&[0x45, 0]);
    bytes.extend_from_slice(&u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&[0, 1, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend_from_slice(&from.0.octets());
    bytes.extend_from_slice(&to.0.octets());
    bytes.extend_from_slice(&from.1.to_be_bytes());
    bytes.extend_from_slice(&to.1.to_be_bytes());
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&ack.to_be_bytes());
    bytes.extend_from_slice(&[0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

/// One request of 12 bytes and its answer of 29, per device in turn, over and over.
fn traffic() -> Vec<Vec<u8>> {
    let controller = (Ipv4Addr::new(10, 0, 0, 1), 40_000);
    (0..PACKETS)
        .map(|number| {
            let (round, device) = (number / 2 / u32::from(DEVICES), (number / 2) % u32::from(DEVICES));
            let device_address = (Ipv4Addr::new(10, 0, 1, device as u8), 502);
            let (asked, answered) = (1 + round * 12, 1 + round * 29);
            let id = (round as u16).to_be_bytes();
            if number.is_multiple_of(2) {
                frame(controller, device_address, asked, answered, &[id[0], id[1], 0, 0, 0, 6, 1, 3, 0, 0, 0, 10])
            } else {
                let mut answer = vec![id[0], id[1], 0, 0, 0, 23, 1, 3, 20];
                answer.extend_from_slice(&[7; 20]);
                frame(device_address, controller, answered, asked + 12, &answer)
            }
        })
        .collect()
}

#[divan::bench(sample_count = 10)]
fn modbus_of_a_hundred_devices(bencher: Bencher<'_, '_>) {
    let frames = traffic();
    let watches: Vec<Watch> = (0..DEVICES)
        .map(|device| Watch {
            endpoint_id: format!("modbus_{device}"),
            protocol: Protocol::Modbus,
            direction: Direction::Outbound,
            address: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 1, device as u8))),
            port: Some(502),
            gateway: None,
        })
        .collect();
    bencher.counter(ItemsCount::new(PACKETS)).bench_local(|| {
        let mut analysis = Analysis::new(AnalysisSettings::default(), watches.clone(), Vec::new());
        for (number, frame) in (1..).zip(&frames) {
            analysis.packet(&Packet {
                number,
                unix_ns: 1_700_000_000_000_000_000 + i64::try_from(number).unwrap() * 50_000,
                interface: 0,
                link_type: LinkType::ETHERNET,
                wire_len: u32::try_from(frame.len()).unwrap(),
                data: frame,
            });
        }
        let seen = analysis.evidence("modbus_7", &[]).unwrap().wire.modbus.unwrap();
        assert_eq!((seen.requests, seen.responses), (u64::from(PACKETS) / 200, u64::from(PACKETS) / 200));
    });
}
