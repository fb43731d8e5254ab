//! How fast packets are analysed: Modbus polls over many connections, made in memory.
//!
//! `cargo bench --bench analysis`; the items per second are packets. Whole files are measured by `first_look`.

#![allow(clippy::panic)]

#[path = "../src/analysis/testing.rs"]
mod testing;

use divan::{Bencher, counter::ItemsCount};
use netdiag::{
    analysis::{Analysis, AnalysisSettings, Watch},
    api::{Direction, Protocol},
    packet::{LinkType, Packet, PacketSink},
};
use std::net::SocketAddr;
use testing::Conversation;

fn main() {
    divan::main();
}

const DEVICES: u8 = 100;

/// Handshakes, then polls in turn: request, acknowledged response, acknowledgement; a tenth are exceptions.
fn polls(connections: u16, rounds: u16) -> Vec<(i64, Vec<u8>)> {
    let end = |third: u8, fourth, port| SocketAddr::from(([10, 0, third, fourth], port));
    let mut talks: Vec<Conversation> = (0..connections)
        .map(|number| Conversation::between(end(1, 1, 10_000 + number), end(0, (number % u16::from(DEVICES)) as u8 + 1, 502)))
        .collect();
    let mut frames: Vec<Vec<u8>> = talks.iter_mut().flat_map(Conversation::handshake).collect();
    for round in 0..rounds {
        let [high, low] = round.to_be_bytes();
        for talk in &mut talks {
            frames.push(talk.send(false, &[high, low, 0, 0, 0, 6, 1, 3, 0, 100, 0, 20]));
            if round % 10 == 9 {
                frames.push(talk.send(true, &[high, low, 0, 0, 0, 3, 1, 0x83, 2]));
            } else {
                frames.push(talk.send(true, &[&[high, low, 0, 0, 0, 43, 1, 3, 40][..], &[7; 40]].concat()));
            }
            frames.push(talk.ack(false));
        }
    }
    (0..).zip(frames).map(|(number, frame)| (number * 250_000, frame)).collect()
}

fn analyse(packets: &[(i64, Vec<u8>)], watches: Vec<Watch>) -> Analysis {
    let mut analysis = Analysis::new(AnalysisSettings::default(), watches, Vec::new());
    for (number, (unix_ns, data)) in (1..).zip(packets) {
        let wire_len = data.len() as u32;
        analysis.packet(&Packet { number, unix_ns: *unix_ns, interface: 0, link_type: LinkType::ETHERNET, wire_len, data });
    }
    analysis
}

fn watches() -> Vec<Watch> {
    let watch = |device: u8| Watch {
        endpoint_id: format!("modbus_10.0.0.{device}_502"),
        protocol: Protocol::Modbus,
        direction: Direction::Outbound,
        address: Some([10, 0, 0, device].into()),
        port: Some(502),
        gateway: None,
    };
    (1..=DEVICES).map(watch).collect()
}

#[divan::bench(args = [10, 1_000, 20_000], sample_count = 10)]
fn modbus_polls(bencher: Bencher<'_, '_>, connections: u16) {
    let packets = polls(connections, 60_000 / connections + 1);
    bencher.counter(ItemsCount::new(packets.len())).bench(|| analyse(&packets, Vec::new()));
}

/// What the monitor does at the end of each period while packets have to wait, and what it does after: the figures of 100 endpoints with 10
/// connections each.
#[divan::bench_group]
mod period {
    use super::*;
    use netdiag::analysis::Account;

    #[divan::bench]
    fn read(bencher: Bencher<'_, '_>) {
        let analysis = analyse(&polls(1_000, 60), watches());
        bencher.counter(ItemsCount::new(usize::from(DEVICES))).bench(|| analysis.meters());
    }

    #[divan::bench]
    fn sum_up(bencher: Bencher<'_, '_>) {
        let meters = analyse(&polls(1_000, 60), watches()).meters();
        bencher.counter(ItemsCount::new(usize::from(DEVICES))).with_inputs(|| (Account::default(), meters.clone())).bench_values(
            |(mut account, meters)| {
                account.read(meters);
                account.take()
            },
        );
    }
}

/// Evidence of a hundred endpoints with ten connections each, as the end of a test asks for it.
#[divan::bench]
fn evidence_of_100_endpoints(bencher: Bencher<'_, '_>) {
    let analysis = analyse(&polls(1_000, 20), watches());
    let ids: Vec<String> = watches().into_iter().map(|watch| watch.endpoint_id).collect();
    bencher.counter(ItemsCount::new(ids.len())).bench(|| ids.iter().map(|id| analysis.evidence(id, &[])).collect::<Vec<_>>());
}
