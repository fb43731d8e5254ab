//! Real captures against expected answers, when they lie beside the repository. The answers are those of another tool and, where that
//! is known to be wrong, of a byte-exact reassembly; their README says how to compare.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/needs.rs"]
#[allow(dead_code)]
mod needs;
#[path = "support/second_opinion.rs"]
mod second_opinion;

use netdiag::{
    analysis::{Analysis, AnalysisSettings, Counters, Watch},
    api::{AnalysisReport, Direction, Protocol, ServerReport, TcpReport},
    packet::{Decoded, LinkType, Net, Packet, PacketSink, Reader, Transport, decode, decompressed},
};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::Read,
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
};

fn folder() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/pcaps")).to_path_buf()
}

/// The expected row of each capture; `None` (and a note) if they are not there.
fn expected() -> Option<Map<String, Value>> {
    let text = fs::read(needs::collection("pcaps")?.join("expected.json")).expect("the expected answers");
    Some(serde_json::from_slice(&text).expect("expected.json is JSON"))
}

/// The usual settings, with the ports that the row names beside the registered ones.
fn settings(row: &Value) -> AnalysisSettings {
    let mut settings = AnalysisSettings::default();
    if let Some([protocol, port]) = row.get("decode_as").and_then(Value::as_array).map(Vec::as_slice) {
        let ports = if protocol == "--modbus-port" { &mut settings.modbus_ports } else { &mut settings.dnp3_ports };
        ports.push(port.as_str().and_then(|port| port.parse().ok()).expect("a port"));
    }
    settings
}

/// A capture, compressed or not.
fn opened(name: &str) -> Reader<impl Read> {
    Reader::new(decompressed(File::open(folder().join(name)).expect("the capture")).expect("readable")).expect("readable")
}

/// The first look at a capture.
fn analyse(name: &str, row: &Value) -> (Counters, AnalysisReport, u64) {
    let mut analysis = Analysis::new(settings(row), Vec::new(), Vec::new());
    let mut last_ns = i64::MIN;
    let mut reader = opened(name);
    while let Some(packet) = reader.next_packet().expect("readable") {
        analysis.packet(&packet);
        last_ns = last_ns.max(packet.unix_ns);
    }
    analysis.finish();
    // There, what is open at the end of the capture is unanswered: so let time go by.
    let packet = Packet {
        number: 0,
        unix_ns: last_ns.saturating_add(60_000_000_000),
        interface: 0,
        link_type: LinkType::RAW,
        wire_len: 0,
        data: &[],
    };
    analysis.packet(&packet);
    (analysis.counters(), analysis.report(), reader.numbered())
}

/// How many segments but bare acknowledgements and resets a capture has more than once, by brute force: alike in all their headers with the same
/// number in IPv4's or, without one, a time stamp in TCP's within 100 ms, or without either within 100 µs.
fn doubled(name: &str) -> u64 {
    let mut latest = HashMap::new();
    let mut doubled = 0;
    let mut reader = opened(name);
    while let Some(packet) = reader.next_packet().expect("readable") {
        let Ok(Decoded { net: Net::Ip(ip), .. }) = decode(packet.link_type, packet.data) else { continue };
        let Transport::Tcp(tcp) = ip.transport else { continue };
        let (special, numbered) = (tcp.flags.syn() || tcp.flags.fin(), ip.number != 0 || tcp.options().timestamps.is_some());
        let is_bare = tcp.payload_len == 0 && !special;
        if ip.fragment.is_some() || is_bare || tcp.flags.rst() {
            continue;
        }
        let ends = (ip.src, ip.dst, tcp.src_port, tcp.dst_port);
        let key = (ends, ip.number, (tcp.seq, tcp.ack, tcp.flags, tcp.payload_len, tcp.window), tcp.raw_options.to_vec());
        let window_ns = if numbered { 100_000_000 } else { 100_000 };
        match latest.get(&key) {
            Some(at) if packet.unix_ns.abs_diff(*at) <= window_ns => doubled += 1,
            _ => _ = latest.insert(key, packet.unix_ns),
        }
    }
    doubled
}

/// What we count under each name of the expected rows, in its sense: there, copies count like any segment, retries of SYN, SYN-ACK and
/// FIN are retransmissions, address probes are ARP requests, and all responses are counted, those to no request too.
fn figures(counters: &Counters, report: &AnalysisReport, numbered: u64) -> Vec<(&'static str, u64)> {
    let (wire, copies) = (&counters.wire, &counters.copies);
    let modbus = wire.modbus.clone().unwrap_or_default();
    let dnp3 = wire.dnp3.clone().unwrap_or_default();
    let tcp = |figure: fn(&TcpReport) -> u64| report.servers.iter().map(|server| figure(&server.tcp)).sum();
    vec![
        ("refused", tcp(|tcp| tcp.refused)),
        // What cannot be seen for want of one direction counts as unanswered there.
        ("no_answer", tcp(|tcp| tcp.unanswered) + counters.attempts_unseen),
        ("duplicate_ack", tcp(|tcp| tcp.duplicate_acks) + copies.acks),
        ("packets", numbered),
        ("cut_frames", counters.cut),
        ("syn", wire.syn + wire.syn_retries + copies.syn),
        ("syn_retries", wire.syn_retries + copies.syn),
        ("syn_ack", wire.syn_ack + copies.syn_ack),
        ("rst", wire.rst + copies.rst),
        ("fin", wire.fin + copies.fin),
        ("icmp_unreachable", wire.icmp_unreachable),
        ("arp_requests", counters.arp_asked + counters.arp_probes),
        ("arp_unanswered", wire.arp_unanswered + counters.arp_probes),
        ("modbus_requests", modbus.requests),
        ("modbus_responses", modbus.responses + counters.modbus_unexpected),
        ("modbus_exceptions", modbus.exceptions),
        ("modbus_unanswered", modbus.unanswered + counters.modbus_unseen),
        ("modbus_stray_responses", counters.modbus_unexpected),
        ("dnp3_frames", dnp3.frames),
        ("dnp3_requests", dnp3.requests),
        ("dnp3_responses", dnp3.responses + counters.dnp3_unexpected + counters.dnp3_further_fragments),
        ("dnp3_unsolicited", dnp3.unsolicited),
        ("dnp3_requests_unanswered", dnp3.unanswered + counters.dnp3_unseen),
        ("dnp3_missing_confirms", counters.dnp3_unconfirmed),
        ("dnp3_header_crc_bad", counters.dnp3_header_crc_errors),
        ("dnp3_chunk_crc_bad", counters.dnp3_data_crc_errors),
        (
            "sent_again",
            wire.retransmissions + wire.syn_retries + counters.handshake_again + counters.out_of_order + copies.segments
                - copies.rst,
        ),
    ]
}

/// What is expected under a name: any of several numbers, or nothing to judge by.
fn wanted(row: &Value, name: &str) -> Option<Vec<u64>> {
    let sum = |names: &[&str]| names.iter().map(|name| row.get(*name).and_then(Value::as_u64).unwrap_or(0)).sum();
    match name {
        "sent_again" => Some(vec![sum(&["retransmission", "out_of_order"])]),
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

/// Captures, and the client in each, with a response of several fragments: there, its time is that of the first one, and here that of the
/// last.
const SEVERAL_FRAGMENTS: &[(&str, &str)] = &[
    ("ITI-ICS-Security-Tools__8.9.1.2_dump.pcap", "127.0.0.1"),
    ("idaholab-Malcolm-Test-Artifacts__DNP3.pcap", "192.168.80.249"),
    ("zeek-zeek__dnp3_link_only.pcap", "192.168.80.249"),
];

/// Where the median of the response times of a client and a server differs from the expected one by more than 1 %.
fn medians(name: &str, report: &AnalysisReport) -> (usize, Vec<String>) {
    let truth = fs::read(folder().join("truth").join(format!("{name}.json"))).unwrap_or_default();
    let truth: Value = serde_json::from_slice(&truth).unwrap_or_default();
    type Speaks = fn(&ServerReport) -> bool;
    let protocols: [(&str, Speaks); 2] = [("modbus", |server| server.modbus.is_some()), ("dnp3", |server| server.dnp3.is_some())];
    let (mut compared, mut differ) = (0, Vec::new());
    for (protocol, speaks) in protocols {
        for pair in truth.get(protocol).and_then(Value::as_array).into_iter().flatten() {
            let Some(wanted) = pair.pointer("/response_ms/median").and_then(Value::as_f64) else { continue };
            let is =
                |address: Option<IpAddr>, name: &str| address.map(|address| address.to_string()).as_deref() == pair[name].as_str();
            let same = |server: &&ServerReport| {
                is(server.address, "server") && pair["port"] == server.port.unwrap_or_default() && speaks(server)
            };
            let clients = report.servers.iter().find(same).map(|server| server.clients.as_slice()).unwrap_or_default();
            let Some(client) = clients.iter().find(|client| is(client.address, "client")) else { continue };
            // Another number of answers is judged by its own figure.
            if pair.pointer("/response_ms/n").and_then(Value::as_u64) != Some(client.responses) {
                continue;
            }
            let Some(median) = client.response_ms.and_then(|times| times.median) else { continue };
            compared += 1;
            if protocol == "dnp3" && SEVERAL_FRAGMENTS.iter().any(|(known, asker)| *known == name && pair["client"] == *asker) {
                differ.extend((median <= wanted).then(|| format!("{name}: no fragment after the first")));
            } else if (median - wanted).abs() > wanted * 0.01 + 0.001 {
                differ.push(format!("{name}: {protocol} median {median} ms, expected {wanted} ms"));
            }
        }
    }
    (compared, differ)
}

/// Where we differ, and why.
const KNOWN: &[(&str, &[&str], &str)] = &[
    (
        "arkime-arkime__wireshark-retrans.pcap",
        &["duplicate_ack"],
        "there, a copy of an acknowledgement that follows on bytes of its sender is no duplicate",
    ),
    ("ntop-nDPI__rtsp.pcapng", &["refused"], "an attempt was refused before another one on the same ports was accepted"),
    (
        "derived__dev_bitrot.pcap",
        &["refused", "no_answer", "syn", "syn_retries", "sent_again"],
        "random damage: judged by the number of packets only",
    ),
    (
        "ntop-nDPI__fuzz-2006-06-26-2594.pcap",
        &["arp_requests", "sent_again"],
        "fuzzed: ARP for other addresses, impossible headers",
    ),
    ("derived__dev_dnp3_reorder5.pcap", &["sent_again"], "acknowledgements before their data, each direction in order"),
    ("derived__dev_modbus_reorder5.pcap", &["modbus_stray_responses"], "an answer captured before its request is matched here"),
    (
        "idaholab-Malcolm-Test-Artifacts__DNP3.pcap",
        &["dnp3_frames", "dnp3_requests", "dnp3_responses", "dnp3_header_crc_bad", "sent_again"],
        "several captures glued together, not in the order of time: judged loosely",
    ),
    (
        "idaholab-Malcolm-Test-Artifacts__a30789ce-1e1c-4f96-a097-78c34b9fb612.pcap",
        &["arp_unanswered"],
        "an address probe was answered",
    ),
    (
        "ITI-ICS-Security-Tools__auth_control_challenge_response.pcap",
        &["dnp3_responses", "dnp3_requests_unanswered"],
        "authentication responses are responses here",
    ),
    (
        "zeek-zeek__auth_change_session_keys.pcap",
        &["dnp3_responses", "dnp3_requests_unanswered"],
        "authentication responses are responses here",
    ),
    ("zeek-zeek__dnp3_udp_en_spon.pcap", &["dnp3_requests", "dnp3_responses"], "over UDP only frames are expected"),
    ("zeek-zeek__dnp3_udp_read.pcap", &["dnp3_requests", "dnp3_responses"], "over UDP only frames are expected"),
];

#[test]
fn real_captures_against_expected_answers() {
    let Some(expected) = expected() else { return };
    let mut agree = BTreeMap::<&str, (u32, u32)>::new();
    let (mut differ, mut explained, mut medians_compared, mut with_copies) = (Vec::new(), BTreeSet::new(), 0, 0);
    for (name, row) in &expected {
        let (counters, report, numbered) = analyse(name, row);
        // Retransmissions and copies, which the other tool has together, apart.
        let (copies, expected_copies) = (counters.copies.segments - counters.copies.rst, doubled(name));
        with_copies += u32::from(copies > 0);
        if copies != expected_copies {
            differ.push(format!("{name}: {copies} copies, expected {expected_copies}"));
        }
        let (compared, wrong) = medians(name, &report);
        medians_compared += compared;
        differ.extend(wrong);
        for (figure, counted) in figures(&counters, &report, numbered) {
            let Some(wanted) = wanted(row, figure) else { continue };
            let near = |wanted: &u64| {
                let tolerance = match figure {
                    "sent_again" => (wanted / 50).max(2),
                    "duplicate_ack" => (wanted / 20).max(2),
                    _ => 0,
                };
                wanted.abs_diff(counted) <= tolerance
            };
            let (same, all) = agree.entry(figure).or_default();
            *all += 1;
            if wanted.iter().any(near) {
                *same += 1;
            } else if KNOWN.iter().any(|(known, figures, _)| known == name && figures.contains(&figure)) {
                explained.insert((name.as_str(), figure));
            } else {
                differ.push(format!("{name}: {figure} {counted}, expected {wanted:?}"));
            }
        }
    }
    for (figure, (same, all)) in &agree {
        println!("{figure:26} {same:3} of {all}");
    }
    println!("{:26} {medians_compared:3} compared", "medians");
    println!("{:26} {with_copies:3} captures", "copies");
    assert!(with_copies > 3, "{with_copies} captures with copies");
    assert!(medians_compared > 100, "{medians_compared} medians compared");
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    let known = KNOWN.iter().flat_map(|(name, figures, _)| figures.iter().map(move |figure| (*name, *figure)));
    let stale: Vec<_> = known.filter(|known| !explained.contains(known)).collect();
    assert!(stale.is_empty(), "no difference any more: {stale:?}");
}

/// A client opens three connections at once; the device takes two and never answers the third. The same few reads are refused at every
/// poll.
#[test]
fn a_third_connection_refused_by_silence_and_reads_that_are_always_refused() {
    if expected().is_none() {
        return;
    }
    let watch = Watch {
        endpoint_id: "device".into(),
        protocol: Protocol::Modbus,
        direction: Direction::Outbound,
        address: Some([172, 17, 0, 3].into()),
        port: Some(502),
        gateway: None,
    };
    let mut analysis = Analysis::new(AnalysisSettings::default(), vec![watch], Vec::new());
    let mut reader = opened("parallel_connections.pcap");
    while let Some(packet) = reader.next_packet().expect("readable") {
        analysis.packet(&packet);
    }
    let evidence = analysis.evidence("device", &[]).expect("watched");
    let wire = &evidence.wire;
    assert_eq!((wire.packets, wire.syn, wire.syn_ack, wire.fin, wire.retransmissions), (333, 3, 2, 4, 0));
    let modbus = wire.modbus.as_ref().expect("Modbus");
    assert_eq!((modbus.requests, modbus.responses, modbus.exceptions, modbus.unanswered), (94, 94, 20, 0));
    let longest = modbus.response_ms.expect("times").max;
    assert!((longest - 0.294).abs() < 0.001, "{longest}");
    assert_eq!((evidence.session.accepted, evidence.session.unanswered_attempts), (2, 1));
    let told: Vec<(&str, u64)> = evidence.findings.iter().map(|finding| (finding.code.as_str(), finding.count)).collect();
    assert_eq!(told, [("tcp.syn_unanswered", 1), ("modbus.exceptions", 20)]);
    let exceptions = &evidence.findings[1].message;
    assert!(
        exceptions
            .starts_with("172.17.0.3:502 answered 20 of 94 requests with Modbus exception 2 (illegal data address): read holding"),
        "{exceptions}"
    );
}

/// Where we differ from `tshark`, in what, and why.
const OTHER_OPINIONS: &[(&str, &str, &str)] = &[
    (
        "ITI-ICS-Security-Tools__auth_control_challenge_response.pcap",
        "DNP3 \"",
        "it shows no indications of authentication responses",
    ),
    ("zeek-zeek__auth_change_session_keys.pcap", "DNP3 \"", "it shows no indications of authentication responses"),
    ("ITI-ICS-Security-Tools__modbus_test_data_part1.pcap", "Modbus exception ", "the same answer again and again is no answer"),
    ("OISF-suricata-verify__modbus.pcap", "Modbus exception ", "the same answer again and again is no answer"),
    ("arkime-arkime__modbus.pcap", "Modbus exception ", "the same answer again and again is no answer"),
    ("cisagov-icsnpp-dnp3__dnp3_example.pcap", "", "it loses messages over which the transport sequence begins anew"),
    ("derived__dev_dnp3_snap68.pcap", "", "it reads no frame that the snap length cut"),
    ("zeek-zeek__dnp3_read_p20001.pcap", "", "it does not recognise DNP3 on a port that nobody named"),
    ("derived__dev_bitrot.pcap", "", "random damage"),
    ("zeek-zeek__fuzz-72.pcap", "", "fuzzed"),
    ("idaholab-Malcolm-Test-Artifacts__DNP3.pcap", "", "several captures glued together, not in the order of time"),
];

#[test]
fn tshark_sees_the_same_modbus_and_dnp3() {
    let example = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/first_look/site.pcapng.gz")).to_path_buf();
    let mut captures = vec![(example, AnalysisSettings::default())];
    let is_of_site =
        |row: &Value| row.as_object().is_some_and(|row| row.keys().any(|key| key.starts_with("modbus") || key.starts_with("dnp3")));
    let of_site = expected().into_iter().flatten().filter(|(_, row)| is_of_site(row));
    captures.extend(of_site.map(|(name, row)| (folder().join(name), settings(&row))));
    let opinions = |captures: &[(PathBuf, AnalysisSettings)]| -> Vec<_> {
        captures.iter().map(|(file, settings)| second_opinion::on(file, settings)).collect()
    };
    // To start the other tool takes longer than to read the file.
    let (one, other) = captures.split_at(captures.len() / 2);
    let opinions = thread::scope(|threads| {
        let other = threads.spawn(|| opinions(other));
        [opinions(one), other.join().expect("the other half")].concat()
    });
    let (mut figures, mut requests, mut unexplained, mut explained) = (0, BTreeMap::<_, usize>::new(), Vec::new(), BTreeSet::new());
    for ((file, _), opinion) in captures.iter().zip(opinions) {
        let Some(opinion) = opinion else { return };
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        for differ in &opinion.differ {
            match OTHER_OPINIONS.iter().find(|(known, what, _)| *known == name && differ.contains(what)) {
                Some((known, ..)) => _ = explained.insert(*known),
                None => unexplained.push(format!("{name}: {differ}")),
            }
        }
        figures += opinion.figures;
        opinion.requests.into_iter().for_each(|(what, count)| *requests.entry(what).or_default() += count);
    }
    println!("{figures} figures, and one by one of {requests:?}");
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    if captures.len() > 1 {
        let stale: Vec<_> = OTHER_OPINIONS.iter().filter(|(known, ..)| !explained.contains(known)).collect();
        assert!(stale.is_empty(), "no difference any more: {stale:?}");
    }
}
