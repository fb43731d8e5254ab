//! Any packets through the whole analysis: never a panic, and an answer at any time.
//!
//! The input is a row of packets: two bytes of length, one of link type, three of time to the packet before, then the bytes.

use netdiag::{
    analysis::{Analysis, AnalysisSettings, Watch},
    api::{Direction, Protocol},
    packet::{LinkType, Packet, PacketSink},
};

pub fn run(data: &[u8]) {
    let watch = |endpoint_id: &str, protocol, direction, port| Watch {
        endpoint_id: endpoint_id.to_owned(),
        protocol,
        direction,
        address: (direction == Direction::Outbound).then_some([10, 0, 0, 5].into()),
        port: Some(port),
        gateway: None,
    };
    let watches = vec![
        watch("modbus", Protocol::Modbus, Direction::Outbound, 502),
        watch("dnp3", Protocol::Dnp3, Direction::Inbound, 20_000),
    ];
    let settings = AnalysisSettings { max_flows: 8, max_services: 4, max_hosts: 4, max_pending: 16, ..AnalysisSettings::default() };
    let mut analysis = Analysis::new(settings, watches, Vec::new());
    let (mut rest, mut unix_ns) = (data, 0_i64);
    for number in 1.. {
        let Some(([low, high, link_type, time @ ..], after)) = rest.split_first_chunk::<6>() else { break };
        let length = usize::from(u16::from_le_bytes([*low, *high]) % 2048).min(after.len());
        let (bytes, next) = after.split_at(length);
        let link_type = match link_type % 6 {
            0 => LinkType::NULL,
            1 => LinkType::RAW,
            2 => LinkType::LINUX_SLL,
            3 => LinkType::LINUX_SLL2,
            _ => LinkType::ETHERNET,
        };
        unix_ns += i64::from(i32::from_le_bytes([0, time[0], time[1], time[2]]));
        analysis.packet(&Packet { number, unix_ns, interface: 0, link_type, wire_len: length as u32, data: bytes });
        rest = next;
    }
    let _ = analysis.evidence("modbus", &[([10, 0, 0, 1], 40_000).into()]);
    analysis.finish();
    let _ = (analysis.evidence("dnp3", &[]), analysis.findings());
    assert!(analysis.counters().flows <= 8);
}
