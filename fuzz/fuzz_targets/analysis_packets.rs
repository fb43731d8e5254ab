//! Any bytes as a capture: the packets, as long as their one-byte lengths say, go through the whole analysis.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netdiag::{
    analysis::{Analysis, AnalysisSettings, Watch},
    api::{Direction, Protocol},
    packet::{LinkType, Packet, PacketSink},
};

fuzz_target!(|bytes: &[u8]| {
    let watch = |protocol, direction, port| Watch {
        endpoint_id: format!("{protocol}_{port}"),
        protocol,
        direction,
        address: None,
        port: Some(port),
        gateway: None,
    };
    let watches = vec![watch(Protocol::Modbus, Direction::Inbound, 502), watch(Protocol::Dnp3, Direction::Undetermined, 20_000)];
    let mut analysis = Analysis::new(AnalysisSettings::default(), watches, Vec::new());
    let (mut rest, mut number) = (bytes, 0);
    while let Some((length, after)) = rest.split_first() {
        let (data, after) = after.split_at(usize::from(*length).min(after.len()));
        number += 1;
        analysis.packet(&Packet {
            number,
            unix_ns: i64::try_from(number).unwrap() * 1_000_000,
            interface: 0,
            link_type: if number % 2 == 0 { LinkType::ETHERNET } else { LinkType::RAW },
            wire_len: u32::from(*length),
            data,
        });
        rest = after;
    }
    let _ = (analysis.evidence("modbus_502", &[]), analysis.findings(), analysis.counters());
});
