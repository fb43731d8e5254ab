//! Real captures against expected answers, when they lie beside the repository. The answers are those of another tool and, where that
//! is known to be wrong, of a byte-exact reassembly; their README says how to compare.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use netdiag::{
    analysis::{Analysis, AnalysisSettings, Counters},
    packet::{PacketSink, Reader},
};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

fn folder() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/pcaps")).to_path_buf()
}

/// The expected row of each capture; `None` (and a note) if they are not there.
fn expected() -> Option<Map<String, Value>> {
    let Ok(text) = fs::read(folder().join("expected.json")) else {
        eprintln!("SKIPPED: no captures in {}", folder().display());
        return None;
    };
    Some(serde_json::from_slice(&text).expect("expected.json is JSON"))
}

/// The first look at a capture, with the ports that the row names beside the registered ones.
fn analyse(name: &str, row: &Value) -> Analysis {
    let mut settings = AnalysisSettings::default();
    if let Some((protocol, port)) = row.get("decode_as").and_then(Value::as_str).and_then(|text| text.split_once(':')) {
        let ports = if protocol == "modbus" { &mut settings.modbus_ports } else { &mut settings.dnp3_ports };
        ports.push(port.parse().expect("a port"));
    }
    let mut analysis = Analysis::new(settings, Vec::new(), Vec::new());
    let mut reader = Reader::new(File::open(folder().join(name)).expect("the capture")).expect("readable");
    while let Some(packet) = reader.next_packet().expect("readable") {
        analysis.packet(&packet);
    }
    analysis.finish();
    analysis
}

/// What we count under each name of the expected rows.
fn figures(counters: &Counters) -> Vec<(&'static str, u64)> {
    let wire = &counters.wire;
    let modbus = wire.modbus.clone().unwrap_or_default();
    let dnp3 = wire.dnp3.clone().unwrap_or_default();
    vec![
        ("packets", counters.packets),
        ("cut_frames", counters.cut),
        // There, retries are SYNs too.
        ("syn", wire.syn + wire.syn_retries),
        ("syn_retries", wire.syn_retries),
        ("syn_ack", wire.syn_ack),
        ("rst", wire.rst),
        ("fin", wire.fin),
        ("keep_alive", counters.keep_alives),
        ("icmp_unreachable", wire.icmp_unreachable),
        ("arp_requests", counters.arp_asked),
        ("arp_unanswered", wire.arp_unanswered),
        ("modbus_requests", modbus.requests),
        ("modbus_responses", modbus.responses),
        ("modbus_exceptions", modbus.exceptions),
        ("modbus_unanswered", modbus.unanswered),
        ("modbus_stray_responses", counters.modbus_unexpected),
        ("dnp3_frames", dnp3.frames),
        ("dnp3_requests", dnp3.requests),
        ("dnp3_responses", dnp3.responses),
        ("dnp3_unsolicited", dnp3.unsolicited),
        ("dnp3_requests_unanswered", dnp3.unanswered),
        ("dnp3_missing_confirms", counters.dnp3_unconfirmed),
        ("dnp3_header_crc_bad", counters.dnp3_header_crc_errors),
        ("dnp3_chunk_crc_bad", counters.dnp3_data_crc_errors),
        // There, SYN retries are retransmissions too.
        ("sent_again", wire.retransmissions + wire.syn_retries + counters.out_of_order),
    ]
}

/// What is expected under a name: any of several numbers, or nothing to judge by.
fn wanted(row: &Value, name: &str) -> Option<Vec<u64>> {
    let sum = |names: &[&str]| names.iter().map(|name| row.get(*name).and_then(Value::as_u64).unwrap_or(0)).sum();
    match name {
        "sent_again" => Some(vec![
            sum(&["retransmission", "out_of_order", "fast_retransmission", "spurious_retransmission"]),
            sum(&["retransmission", "out_of_order"]),
        ]),
        "dnp3_frames" => match row.get("dnp3_tcp_frames") {
            Some(Value::Array(several)) => {
                Some(several.iter().filter_map(Value::as_u64).map(|frames| frames + sum(&["dnp3_udp_frames"])).collect())
            }
            Some(Value::Null) => None,
            _ => Some(vec![sum(&["dnp3_tcp_frames", "dnp3_udp_frames"])]),
        },
        name => match row.get(name) {
            Some(Value::Null) => None,
            Some(Value::Array(several)) => Some(several.iter().filter_map(Value::as_u64).collect()),
            Some(number) => number.as_u64().map(|number| vec![number]),
            None => Some(vec![0]),
        },
    }
}

#[test]
fn real_captures_against_expected_answers() {
    let Some(expected) = expected() else { return };
    let mut agree = BTreeMap::<&str, (u32, u32)>::new();
    let mut differ = Vec::new();
    for (name, row) in expected.iter().filter(|(name, _)| !name.ends_with(".gz")) {
        let counters = analyse(name, row).counters();
        for (figure, counted) in figures(&counters) {
            let Some(wanted) = wanted(row, figure) else { continue };
            let near = |wanted: &u64| {
                let tolerance = if figure == "sent_again" { (wanted / 50).max(2) } else { 0 };
                wanted.abs_diff(counted) <= tolerance
            };
            let (same, all) = agree.entry(figure).or_default();
            *all += 1;
            if wanted.iter().any(near) {
                *same += 1;
            } else {
                differ.push(format!("{name}: {figure} {counted}, expected {wanted:?} (copies {})", counters.copies));
            }
        }
    }
    for (figure, (same, all)) in &agree {
        println!("{figure:26} {same:3} of {all}");
    }
    println!("{}", differ.join("\n"));
}
