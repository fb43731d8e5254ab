//! How fast packets are analysed: Modbus polls over many connections, made in memory.
//!
//! `cargo bench --bench analysis`; the items per second are packets.

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

/// The whole first look as `netdiag analyze` takes it: a pcapng file of about a million packets of 20,000 connections, read, analysed and
/// reported; and what `tcpdump -r FILE -w FILE` needs to copy the same file, where it is installed.
#[divan::bench_group(sample_count = 5, sample_size = 1)]
mod whole_first_look {
    use super::*;
    use netdiag::packet::{InterfaceDescription, SectionDescription, Writer};
    use std::{fs::File, io::BufWriter, ops::ControlFlow, path::PathBuf, process::Command};

    fn file() -> (tempfile::TempDir, PathBuf, usize) {
        let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let path = dir.path().join("million.pcapng");
        let packets = polls(20_000, 16);
        let write = || -> std::io::Result<()> {
            let mut writer = Writer::new(BufWriter::new(File::create(&path)?), &SectionDescription::default())?;
            let name = "eth0".to_owned();
            writer.interface(&InterfaceDescription { name, link_type: LinkType::ETHERNET, snaplen: 0, filter: None })?;
            for (number, (unix_ns, data)) in (1..).zip(&packets) {
                let wire_len = data.len() as u32;
                writer.packet(&Packet {
                    number,
                    unix_ns: *unix_ns,
                    interface: 0,
                    link_type: LinkType::ETHERNET,
                    wire_len,
                    data,
                })?;
            }
            Ok(())
        };
        write().unwrap_or_else(|error| panic!("{error}"));
        (dir, path, packets.len())
    }

    #[divan::bench]
    fn netdiag(bencher: Bencher<'_, '_>) {
        let (_dir, path, packets) = file();
        bencher.counter(ItemsCount::new(packets)).bench(|| {
            let mut analysis = Analysis::new(AnalysisSettings::default(), Vec::new(), Vec::new());
            let file = File::open(&path).unwrap_or_else(|error| panic!("{error}"));
            let read = analysis.read_through(file, &mut |_, _| ControlFlow::Continue(()));
            assert!(read.is_ok_and(|read| read.damage.is_none()));
            let report = analysis.report();
            assert_eq!(report.packets, packets as u64);
            report
        });
    }

    #[divan::bench]
    fn tcpdump_copies(bencher: Bencher<'_, '_>) {
        let (dir, path, packets) = file();
        if Command::new("tcpdump").arg("--version").output().is_err() {
            return;
        }
        bencher.counter(ItemsCount::new(packets)).bench(|| {
            let output = Command::new("tcpdump").arg("-r").arg(&path).arg("-w").arg(dir.path().join("copy.pcap")).output();
            assert!(output.is_ok_and(|output| output.status.success()));
        });
    }
}

/// Evidence of a hundred endpoints with ten connections each, as the end of a test asks for it.
#[divan::bench]
fn evidence_of_100_endpoints(bencher: Bencher<'_, '_>) {
    let analysis = analyse(&polls(1_000, 20), watches());
    let ids: Vec<String> = watches().into_iter().map(|watch| watch.endpoint_id).collect();
    bencher.counter(ItemsCount::new(ids.len())).bench(|| ids.iter().map(|id| analysis.evidence(id, &[])).collect::<Vec<_>>());
}
