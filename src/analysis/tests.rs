//! Whole packets in, evidence and findings out.

mod account;
mod around;
mod dnp3;
mod limits;
mod modbus;
mod report;
mod seam;
mod sessions;
mod tcp;
mod thresholds;

use super::{Analysis, AnalysisSettings, Evidence, Watch, testing::*};
use crate::{
    api::{Direction, Finding, Protocol},
    packet::{LinkType, Packet, PacketSink},
};
use std::net::{IpAddr, SocketAddr};

const CLIENT: &str = "10.0.0.1:40000";
const DEVICE: &str = "10.0.0.5:502";
const ID: &str = "modbus_10.0.0.5_502";

/// An analysis, and the number of the next packet.
struct Site {
    analysis: Analysis,
    number: u64,
}

impl Site {
    fn new(watches: Vec<Watch>) -> Self {
        Self::with(AnalysisSettings::default(), watches)
    }

    fn with(settings: AnalysisSettings, watches: Vec<Watch>) -> Self {
        Self { analysis: Analysis::new(settings, watches, vec![ip_of("10.0.0.1"), ip_of("10.1.0.1"), ip_of("fd00::1")]), number: 0 }
    }

    /// With the Modbus device watched.
    fn modbus() -> Self {
        Self::new(vec![outbound(ID, Protocol::Modbus, DEVICE)])
    }

    /// Takes a frame at so many milliseconds.
    fn at(&mut self, ms: f64, frame: impl AsRef<[u8]>) -> u64 {
        self.cut_at(ms, frame.as_ref(), usize::MAX)
    }

    /// Takes as much of a frame as a snap length leaves.
    fn cut_at(&mut self, ms: f64, frame: &[u8], snap_length: usize) -> u64 {
        self.number += 1;
        self.analysis.packet(&Packet {
            number: self.number,
            unix_ns: 1_700_000_000_000_000_000 + (ms * 1e6) as i64,
            interface: 0,
            link_type: LinkType::ETHERNET,
            wire_len: frame.len() as u32,
            data: frame.get(..snap_length).unwrap_or(frame),
        });
        self.number
    }

    fn all(&mut self, ms: f64, frames: impl IntoIterator<Item = Vec<u8>>) {
        for (step, frame) in frames.into_iter().enumerate() {
            self.at(ms + step as f64 * 0.5, frame);
        }
    }

    /// Time goes by: a packet that is about nobody.
    fn wait_until(&mut self, ms: f64) {
        self.at(ms, udp(socket("10.9.9.9:9"), socket("10.9.9.8:9"), &[]));
    }

    fn evidence(&self) -> Evidence {
        self.evidence_of(ID, &[])
    }

    fn evidence_of(&self, id: &str, own: &[&str]) -> Evidence {
        self.analysis.evidence(id, &own.iter().map(|own| socket(own)).collect::<Vec<_>>()).unwrap()
    }
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip_of(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn outbound(id: &str, protocol: Protocol, address: &str) -> Watch {
    let address = socket(address);
    Watch {
        endpoint_id: id.into(),
        protocol,
        direction: Direction::Outbound,
        address: Some(address.ip()),
        port: Some(address.port()),
        gateway: None,
    }
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.as_str()).collect()
}

fn find<'a>(findings: &'a [Finding], code: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.code == code).unwrap_or_else(|| panic!("no {code} in {findings:#?}"))
}

/// A few frames of both protocols, one after another.
fn modbus_and_dnp3_bytes() -> Vec<u8> {
    use crate::protocol::dnp3::{LinkFunction, LinkHeader, frames};
    let modbus = [0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1, 0, 1, 0, 0, 0, 5, 1, 3, 2, 0, 9];
    let dnp3 = frames(LinkHeader::from_master(LinkFunction::UnconfirmedUserData, 10, 1), 0, &[0xC0, 1, 60, 1, 6]);
    [&modbus[..], &dnp3, &modbus, &dnp3, &modbus, &dnp3, &modbus, &dnp3].concat()
}
