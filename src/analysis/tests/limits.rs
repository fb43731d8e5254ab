//! Bounded memory, damaged packets, and bytes that mean nothing.

use super::*;
use proptest::prelude::*;

#[test]
fn connections_are_forgotten_but_what_they_came_to_is_not() {
    let settings = AnalysisSettings { max_flows: 4, ..AnalysisSettings::default() };
    let mut site = Site::with(settings, vec![outbound(ID, Protocol::Modbus, DEVICE)]);
    for port in 0..100 {
        let mut talk = Conversation::new(&format!("10.0.0.1:{}", 30000 + port), DEVICE);
        site.all(f64::from(port) * 10.0, talk.handshake());
        site.at(f64::from(port) * 10.0 + 2.0, talk.send(true, b"x"));
    }
    let counters = site.analysis.counters();
    assert_eq!((counters.flows, counters.flows_evicted, counters.wire.syn), (4, 96, 100));
    let evidence = site.evidence_of(ID, &["10.0.0.1:30090", "10.0.0.1:30099"]);
    assert_eq!((evidence.attempt.syn, evidence.session.attempts, evidence.session.server_payload_segments), (2, 98, 98));
    assert_eq!(codes(&site.analysis.findings()), ["capture.forgotten"]);
}

#[test]
fn connections_that_are_over_are_let_go_and_nothing_is_forgotten() {
    let mut site = Site::new(Vec::new());
    let mut most = 0;
    for number in 0..2_000_u32 {
        let mut talk = Conversation::new(&format!("10.0.{}.1:{}", number % 4 + 1, 20000 + number), DEVICE);
        let ms = f64::from(number) * 1000.0;
        site.all(ms, talk.handshake());
        match number % 4 {
            0 => site.at(ms + 10.0, talk.rst(true)),
            1 => site.at(ms + 10.0, Conversation::new("10.0.9.1:1", &format!("10.0.0.6:{}", 1000 + number)).syn()),
            _ => {
                site.all(ms + 10.0, [talk.fin(false), talk.fin(true)]);
                site.at(ms + 12.0, talk.ack(false))
            }
        };
        most = most.max(site.analysis.counters().flows);
    }
    // Those of the last two minutes, attempts without an answer too, and the quarter that never ended.
    assert!(most < 500 + 200, "{most}");
    let counters = site.analysis.counters();
    assert_eq!((counters.flows_evicted, counters.wire.syn), (0, 2_500));
    assert!(!codes(&site.analysis.findings()).contains(&"capture.forgotten"));
}

#[test]
fn connections_that_are_over_make_room_before_those_that_are_open() {
    let settings = AnalysisSettings { max_flows: 20, ..AnalysisSettings::default() };
    let mut site = Site::with(settings, Vec::new());
    let mut open = Conversation::new(CLIENT, DEVICE);
    site.all(0.0, open.handshake());
    for number in 0..1_000_u32 {
        let mut talk = Conversation::new(&format!("10.0.0.2:{}", 20000 + number), DEVICE);
        let ms = 10.0 + f64::from(number) * 10.0;
        site.all(ms, talk.handshake());
        site.all(ms + 5.0, [talk.fin(false), talk.fin(true), talk.ack(false)]);
    }
    assert_eq!(site.analysis.counters().flows_evicted, 0);
    site.at(20_000.0, open.send(false, b"still here"));
    let report = site.analysis.report();
    assert_eq!(report.servers[0].clients[0].connections, 1, "it was not forgotten and met again");
}

#[test]
fn requests_that_wait_are_bounded_and_the_forgotten_ones_counted() {
    let settings = AnalysisSettings { max_pending_per_flow: 8, ..AnalysisSettings::default() };
    let mut site = Site::with(settings, vec![outbound(ID, Protocol::Modbus, DEVICE)]);
    let mut talk = Conversation::new(CLIENT, DEVICE);
    for transaction_id in 0..100_u16 {
        let [high, low] = transaction_id.to_be_bytes();
        site.at(f64::from(transaction_id), talk.send(false, &[high, low, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1]));
    }
    assert_eq!(site.analysis.counters().requests_evicted, 92);
    site.wait_until(9000.0);
    assert_eq!(site.evidence().wire.modbus.unwrap().unanswered, 8);
}

#[test]
fn servers_and_addresses_are_bounded_too() {
    let settings = AnalysisSettings { max_services: 10, max_hosts: 10, ..AnalysisSettings::default() };
    let mut site = Site::with(settings, vec![outbound(ID, Protocol::Modbus, DEVICE)]);
    for host in 0..200 {
        let server = format!("10.7.{}.{}:80", host / 100, host % 100 + 1);
        let mut talk = Conversation::new(CLIENT, &server);
        site.all(f64::from(host), talk.handshake());
        site.at(f64::from(host), arp(1, [2; 6], [10, 0, 0, 1].into(), [10, 8, host as u8, 1].into()));
    }
    let counters = site.analysis.counters();
    assert_eq!((counters.wire.syn, counters.wire.syn_ack), (200, 200));
    assert!(counters.hosts_evicted >= 190);
    site.all(300.0, Conversation::new(CLIENT, DEVICE).handshake());
    assert_eq!(site.evidence().wire.syn, 1, "a watched one is always told apart");
}

#[test]
fn cut_and_undecodable_packets_are_counted_apart() {
    let mut site = Site::modbus();
    let frame = Conversation::new(CLIENT, DEVICE).syn();
    let packet = |data, wire_len| Packet { number: 1, unix_ns: 0, interface: 0, link_type: LinkType::ETHERNET, wire_len, data };
    site.analysis.packet(&packet(&frame[..20], frame.len() as u32));
    site.analysis.packet(&packet(&frame[..20], 20));
    site.analysis.packet(&Packet { link_type: LinkType(9999), ..packet(&frame, frame.len() as u32) });
    let counters = site.analysis.counters();
    assert_eq!((counters.packets, counters.cut + counters.undecodable), (3, 3));
    assert!(counters.cut >= 1 && counters.undecodable >= 1);
}

#[test]
fn payload_that_the_snap_length_cut_is_a_gap_and_the_next_adu_is_read() {
    let mut site = Site::modbus();
    let mut talk = Conversation::new(CLIENT, DEVICE);
    site.all(0.0, talk.handshake());
    let request = |transaction_id| [0, transaction_id, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1];
    let whole = talk.send(false, &[request(1), request(2)].concat());
    site.analysis.packet(&Packet {
        number: 4,
        unix_ns: 1_700_000_000_010_000_000,
        interface: 0,
        link_type: LinkType::ETHERNET,
        wire_len: whole.len() as u32,
        data: &whole[..whole.len() - 4],
    });
    site.at(20.0, talk.send(false, &request(3)));
    assert_eq!(site.evidence().wire.modbus.unwrap().requests, 3, "the second one by its beginning");
    assert_eq!(site.analysis.counters().cut, 1);
}

proptest! {
    #[test]
    fn bytes_that_mean_nothing_never_panic(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), any::<i64>(), 0_u16..280), 0..40),
    ) {
        let mut site = Site::modbus();
        for (number, (data, unix_ns, link_type)) in (1..).zip(&packets) {
            let link_type = LinkType(*link_type);
            site.analysis.packet(&Packet { number, unix_ns: *unix_ns, interface: 0, link_type, wire_len: data.len() as u32, data });
        }
        site.analysis.finish();
        site.evidence();
        site.analysis.findings();
        prop_assert_eq!(site.analysis.counters().packets, packets.len() as u64);
    }

    /// Segments of a few connections with any numbers, flags, times and payload.
    #[test]
    fn any_segments_never_panic_and_memory_stays_bounded(
        segments in prop::collection::vec(
            (0_u16..6, any::<bool>(), prop_oneof![0_u32..400, any::<u32>()], any::<u32>(), any::<u8>(), 0_usize..80, any::<u32>()), 0..200),
    ) {
        let settings = AnalysisSettings { max_flows: 3, max_pending: 5, max_gap_bytes: 100, max_gap_bytes_total: 200, ..AnalysisSettings::default() };
        let mut site = Site::with(settings, vec![outbound(ID, Protocol::Modbus, DEVICE)]);
        let (frames, ms) = (super::modbus_and_dnp3_bytes(), |ms: u32| f64::from(ms % 100_000));
        for (port, from_server, seq, ack, flags, length, time) in segments {
            let client = SocketAddr::new(ip_of("10.0.0.1"), 30000 + port);
            let server = if port % 2 == 0 { socket(DEVICE) } else { socket("10.0.0.8:20000") };
            let (source, destination) = if from_server { (server, client) } else { (client, server) };
            let payload = &frames[seq as usize % 60..][..length];
            site.at(ms(time), tcp(source, destination, seq, ack, flags, payload));
        }
        site.evidence();
        site.analysis.findings();
        prop_assert!(site.analysis.counters().flows <= 3);
        site.analysis.finish();
        prop_assert_eq!(site.analysis.waiting().0, 0, "all gaps are given up at the end");
        prop_assert!(site.analysis.waiting().1 <= 5 + 3 * 2);
    }
}
