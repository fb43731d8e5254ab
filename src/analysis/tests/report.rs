//! The whole first look: verdicts, figures and what only the whole can tell.

use super::*;
use crate::{
    analysis::{Expectation, HeartbeatWatch},
    api::{AnalysisReport, AnalysisVerdict, HeartbeatCondition, HeartbeatKind, RegisterType, Severity},
    protocol::modbus::Adu,
};

fn adu(transaction_id: u16, unit_id: u8, pdu: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Adu { transaction_id, unit_id, pdu }.encode(&mut bytes).unwrap();
    bytes
}

fn read(transaction_id: u16, offset: u8) -> Vec<u8> {
    adu(transaction_id, 255, &[4, 0, offset, 0, 1])
}

fn value(transaction_id: u16, value: u8) -> Vec<u8> {
    adu(transaction_id, 255, &[4, 2, 0, value])
}

fn opened(site: &mut Site, client: &str, server: &str) -> Conversation {
    let mut talk = Conversation::new(client, server);
    site.all(0.0, talk.handshake());
    talk
}

fn found(report: &AnalysisReport) -> Vec<&str> {
    codes(&report.findings)
}

#[test]
fn a_remark_takes_the_place_of_what_was_found_and_counts_for_the_verdict() {
    let watches = vec![outbound(ID, Protocol::Modbus, DEVICE), outbound("quiet", Protocol::Modbus, "10.0.0.9:502")];
    let expected = |id: &str| Expectation { endpoint_id: id.into(), ..Expectation::default() };
    let mut site = Site::new(Vec::new());
    site.analysis =
        Analysis::new(AnalysisSettings::default(), watches, Vec::new()).with_expectations(vec![expected(ID), expected("quiet")]);
    opened(&mut site, "10.0.0.1:41000", DEVICE);
    let never = find(&site.analysis.report().findings, "site.never_seen").clone();
    assert_eq!((never.severity, site.analysis.report().verdict), (Severity::Info, AnalysisVerdict::Clean));
    site.analysis.remark(crate::api::Finding { severity: Severity::Warning, message: "it is in use".into(), ..never });
    let report = site.analysis.report();
    assert_eq!((found(&report), report.verdict), (vec!["site.never_seen"], AnalysisVerdict::Suspect));
    assert!(report.text.starts_with("one thing to look at") && report.text.ends_with(": it is in use"), "{}", report.text);
}

#[test]
fn messages_call_what_is_looked_at_by_its_name() {
    let never_seen = |name: Option<&'static str>| {
        let mut site = Site::new(Vec::new());
        site.analysis = Analysis::new(AnalysisSettings::default(), vec![outbound(ID, Protocol::Modbus, DEVICE)], Vec::new())
            .with_expectations(vec![Expectation { endpoint_id: ID.into(), ..Expectation::default() }]);
        if let Some(name) = name {
            site.analysis = site.analysis.that_looks_at(name);
        }
        site.wait_until(1.0);
        find(&site.analysis.report().findings, "site.never_seen").message.clone()
    };
    assert_eq!(never_seen(None), "no packet to or from 10.0.0.5:502 is in the capture, although a config names it");
    assert!(never_seen(Some("this snapshot")).contains(" is in this snapshot, although "));
    let empty = Analysis::new(AnalysisSettings::default(), Vec::new(), Vec::new()).that_looks_at("this snapshot");
    assert_eq!(empty.report().text, "this snapshot holds no packets, so nothing can be said");
}

#[test]
fn a_report_that_is_kept_has_the_worst_findings_and_the_number_of_all() {
    let mut site = Site::new(Vec::new());
    opened(&mut site, "10.0.0.1:41000", DEVICE);
    let mut report = site.analysis.report();
    let finding = |number: u64| crate::api::Finding {
        code: "tcp.reset".into(),
        severity: Severity::Warning,
        count: number,
        first_at: None,
        last_at: None,
        endpoint_id: None,
        message: String::new(),
        packets: Vec::new(),
    };
    report.findings = (0..30).map(finding).collect();
    report.keep_worst(30);
    assert_eq!((report.findings.len(), report.findings_total, report.left_out.clone()), (30, 30, None));
    report.keep_worst(7);
    assert_eq!((report.findings.last().unwrap().count, report.findings_total), (6, 30));
    assert!(report.left_out.unwrap().starts_with("these are 7 of 30 findings, the worst ones; "));
}

fn two_ports() -> Site {
    Site::with(AnalysisSettings { modbus_ports: vec![502, 1502], ..AnalysisSettings::default() }, Vec::new())
}

/// Polls two ports of one host each second, of which those at `lost` (port, second) are not answered.
fn polled_but_for(lost: &[(usize, u16)]) -> AnalysisReport {
    let mut site = two_ports();
    let mut talks = [opened(&mut site, "10.0.0.1:40000", "10.0.0.5:502"), opened(&mut site, "10.0.0.1:40001", "10.0.0.5:1502")];
    for second in 0..300_u16 {
        for (port, talk) in talks.iter_mut().enumerate() {
            let ms = 1000.0 * f64::from(second + 1) + port as f64;
            site.at(ms, talk.send(false, &read(second, 0)));
            if !lost.contains(&(port, second)) {
                site.at(ms + 0.5, talk.send(true, &value(second, 1)));
            }
        }
    }
    site.wait_until(400_000.0);
    site.analysis.report()
}

#[test]
fn losses_that_are_not_at_the_same_time_are_no_stall_and_two_that_are_one_are() {
    // Two single losses on one port, and one on the other between them in time.
    let report = polled_but_for(&[(0, 10), (0, 290), (1, 150)]);
    assert_eq!(found(&report), ["modbus.unanswered", "modbus.unanswered"]);
    // Single losses at the same time are losses: each port went on to answer.
    assert_eq!(found(&polled_but_for(&[(0, 10), (1, 10)])), ["modbus.unanswered", "modbus.unanswered"]);
    let stalled: Vec<_> = (0..2).flat_map(|port| (10..14).map(move |second| (port, second))).collect();
    let report = polled_but_for(&stalled);
    assert_eq!(found(&report)[0], "host.stalled");
    assert!(report.reasons.len() == 1 && report.reasons[0].contains("for 4.0 s; 10 requests"), "{:#?}", report.reasons);
    // One port alone is not the host.
    assert!(!found(&polled_but_for(&stalled[..4])).contains(&"host.stalled"));
}

/// Five minutes between a management system and two ports of one host: one read is refused every two seconds, always; and once, for a
/// few seconds, nothing is answered on either port.
#[test]
fn the_chronic_and_the_acute_in_one_capture_are_told_apart() {
    let mut site = two_ports();
    let mut talks = [opened(&mut site, "10.0.0.1:40000", "10.0.0.5:502"), opened(&mut site, "10.0.0.1:40001", "10.0.0.5:1502")];
    // The host asks as well as it answers, on the same port.
    let mut back = opened(&mut site, "10.0.0.5:41000", "10.0.0.1:502");
    let mut events = Vec::new();
    for second in 0..300_u16 {
        let ms = 1000.0 + f64::from(second) * 1000.0;
        let stalls = (100..103).contains(&second);
        // What was asked while it stalled is answered when it goes on.
        let answered_after = if stalls { 103_700.0 - 1000.0 - f64::from(second) * 1000.0 } else { 4.0 };
        for talk in 0..talks.len() {
            let at = ms + talk as f64;
            events.push((at, talk, false, read(second, 9)));
            events.push((at + answered_after, talk, true, value(second, 1)));
        }
        if second % 2 == 0 {
            events.push((ms + 500.0, 0, false, read(second + 1000, 0)));
            events.push((ms + if stalls { answered_after + 1.0 } else { 503.0 }, 0, true, adu(second + 1000, 255, &[0x84, 2])));
        }
        events.push((ms + 200.0, 2, false, read(second, 3)));
        events.push((ms + 203.0, 2, true, value(second, 1)));
    }
    events.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
    for (at, talk, from_server, bytes) in events {
        // Afterwards both connections are reset and made anew.
        if at > 114_300.0 && talks[0].client.port() == 40_000 {
            for (number, talk) in talks.iter_mut().enumerate() {
                site.at(114_300.0, talk.rst(false));
                *talk = Conversation::new(&format!("10.0.0.1:{}", 40_002 + number), &talk.server.to_string());
                site.all(114_310.0, talk.handshake());
            }
        }
        let talk = talks.get_mut(talk).unwrap_or(&mut back);
        site.at(at, talk.send(from_server, &bytes));
    }
    let report = site.analysis.report();
    assert_eq!(report.verdict, AnalysisVerdict::Suspect);
    let told: Vec<_> = report.findings.iter().filter(|finding| finding.severity >= Severity::Warning).collect();
    assert_eq!(told.iter().map(|finding| finding.code.as_str()).collect::<Vec<_>>(), ["host.stalled", "modbus.exceptions"]);
    assert!(
        report.text.starts_with("2 things to look at in ") && report.text.contains(" the worst first: 10.0.0.5 stopped answering on ports 502 and 1502 at the same time, at 2023-11-14T22:15:01.000Z, for 2.7 s; 8 requests waited in vain or were answered late; its connections were made anew 13.3 s after it began: the host or the network stalled, not one service. 10.0.0.5:502 answered 150 of "),
        "{}",
        report.text
    );
    for finding in report.findings.iter().filter(|finding| finding.severity == Severity::Info) {
        assert!(finding.message.ends_with("; this belongs to the stall of the whole host"), "{}", finding.message);
    }
    assert_eq!(
        find(&report.findings, "host.stalled").first_at.unwrap(),
        crate::api::UtcTime::from_unix_ns(1_700_000_101_000_000_000)
    );
    let exceptions = find(&report.findings, "modbus.exceptions");
    assert_eq!(exceptions.count, 150, "one fault of the config is one line");
    assert!(
        exceptions.message.contains("illegal data address")
            && exceptions.message.contains("unit 255, offset 0, count 1 (150 times)")
    );
}

#[test]
fn a_clean_capture_is_clean_and_has_its_figures() {
    let mut site = Site::new(Vec::new());
    let mut talk = opened(&mut site, CLIENT, DEVICE);
    for round in 0..100_u16 {
        let ms = 100.0 + f64::from(round) * 500.0;
        let unit = if round % 4 == 0 { 2 } else { 1 };
        site.at(ms, talk.send(false, &adu(round, unit, &[3, 0, 10, 0, 1])));
        site.at(ms + 1.0 + f64::from(round % 10), talk.send(true, &adu(round, unit, &[3, 2, 0, 7])));
    }
    let report = site.analysis.report();
    assert_eq!((report.verdict, found(&report)), (AnalysisVerdict::Clean, vec![]));
    assert!(report.text.starts_with("nothing suspicious in 203 packets to and from 1 server"), "{}", report.text);
    let [server] = &report.servers[..] else { panic!("{:#?}", report.servers) };
    assert_eq!((server.clients[0].connections, server.clients[0].packets), (1, 203));
    assert_eq!((server.tcp.attempts, server.tcp.accepted, server.tcp.handshake_ms.unwrap().max), (1, 1, 0.5));
    let modbus = server.modbus.as_ref().unwrap();
    let times = modbus.response_ms.unwrap();
    assert_eq!((times.min, times.mean, times.max), (1.0, 5.5, 10.0));
    assert!((times.median.unwrap() - 5.5).abs() < 0.2 && (times.p95.unwrap() - 10.0).abs() < 0.4, "{times:?}");
    assert_eq!(modbus.functions[0].requests, 100);
    let units: Vec<_> = modbus.units.iter().map(|unit| (unit.unit_id, unit.requests, unit.responses)).collect();
    assert_eq!(units, [(1, 75, 75), (2, 25, 25)]);
    let slow_poll = modbus.polls.iter().find(|poll| poll.query.contains("unit 2")).unwrap();
    assert_eq!((slow_poll.repeats, slow_poll.period_ms, slow_poll.jitter_ms), (24, 2000.0, 0.0));
}

#[test]
fn connections_made_anew_are_counted_with_the_time_between() {
    for device_closes in [true, false] {
        made_anew(device_closes);
    }
}

fn made_anew(device_closes: bool) {
    let mut site = Site::new(Vec::new());
    for round in 0..4_u16 {
        let mut talk = Conversation::new(&format!("10.0.0.1:{}", 40000 + round), DEVICE);
        let ms = f64::from(round) * 10_000.0;
        site.all(ms, talk.handshake());
        site.all(ms + 3000.0, [talk.fin(device_closes), talk.fin(!device_closes), talk.ack(false)]);
    }
    let report = site.analysis.report();
    let reconnects = find(&report.findings, "tcp.reconnects");
    let severity = if device_closes { Severity::Warning } else { Severity::Info };
    assert_eq!((reconnects.count, reconnects.severity, reconnects.packets.clone()), (3, severity, vec![8, 14, 20]));
    let tcp = &report.servers[0].tcp;
    assert_eq!((tcp.reconnects, tcp.reconnect_gap_ms.unwrap().max), (3, 7000.0));
}

#[test]
fn what_tcp_suffers_from_is_counted_by_kind() {
    let mut site = Site::new(Vec::new());
    let mut talk = opened(&mut site, CLIENT, DEVICE);
    let lost = talk.send(false, b"0123456789");
    let next: Vec<_> = (0..3).map(|_| talk.send(false, b"abcdefghij")).collect();
    // The first segment is lost; each later one is answered by the acknowledgement of what is there.
    let acknowledges = |number: u32, window: u16| {
        let mut frame = tcp(talk.server, talk.client, talk.next[1], 1001 + number, ACK, &[]);
        frame[14 + 20 + 14..14 + 20 + 16].copy_from_slice(&window.to_be_bytes());
        frame
    };
    site.at(10.0, acknowledges(0, 1000));
    for (step, frame) in next.iter().enumerate() {
        site.at(20.0 + step as f64 * 2.0, frame);
        site.at(21.0 + step as f64 * 2.0, acknowledges(0, 1000));
    }
    site.at(40.0, &lost);
    site.at(41.0, acknowledges(40, 0));
    site.at(241.0, acknowledges(40, 1000));
    site.at(300.0, &next[0]);
    let report = site.analysis.report();
    let tcp = &report.servers[0].tcp;
    assert_eq!((tcp.duplicate_acks, tcp.out_of_order, tcp.retransmissions, tcp.spurious_retransmissions), (3, 0, 2, 1));
    assert_eq!(tcp.fast_retransmissions, 1, "the lost one, after two acknowledgements and more that came again");
    assert_eq!((tcp.zero_windows, tcp.zero_window_max_ms), (1, Some(200.0)));
    assert_eq!(find(&report.findings, "tcp.zero_window").severity, Severity::Warning);
}

#[test]
fn a_connection_that_the_client_never_finishes_is_half_open() {
    let mut site = Site::new(Vec::new());
    let mut talk = Conversation::new(CLIENT, DEVICE);
    site.all(0.0, [talk.syn(), talk.syn_ack()]);
    assert_eq!(site.analysis.report().servers[0].tcp.half_open, 0, "there is still time");
    site.wait_until(2000.0);
    let report = site.analysis.report();
    assert_eq!((report.servers[0].tcp.half_open, found(&report)), (1, vec!["tcp.half_open"]));
}

#[test]
fn a_server_that_talked_and_is_asked_in_vain_has_gone_silent() {
    let mut site = Site::new(Vec::new());
    let mut talk = opened(&mut site, CLIENT, DEVICE);
    for round in 0..5_u16 {
        site.at(1000.0 * f64::from(round), talk.send(false, &read(round, 0)));
        site.at(1000.0 * f64::from(round) + 2.0, talk.send(true, &value(round, 1)));
    }
    let frame = talk.send(false, &read(9, 0));
    (0..15).for_each(|second| _ = site.at(5000.0 + f64::from(second) * 1000.0, &frame));
    let silent = find(&site.analysis.report().findings, "host.silent").clone();
    assert_eq!((silent.severity, silent.packets.len()), (Severity::Alarm, 2));
    assert!(silent.message.ends_with("has said nothing since, for 15.0 s, although it was asked 15 times"), "{}", silent.message);
}

#[test]
fn a_server_that_comes_back_was_silent_all_the_same() {
    let mut site = Site::new(Vec::new());
    let mut talk = opened(&mut site, CLIENT, DEVICE);
    for round in 0..120_u16 {
        let frame = talk.send(false, &read(round, 0));
        site.at(1000.0 * f64::from(round), frame);
        if !(20..100).contains(&round) {
            site.at(1000.0 * f64::from(round) + 2.0, talk.send(true, &value(round, 1)));
        }
    }
    let silent = find(&site.analysis.report().findings, "host.silent").clone();
    assert_eq!((silent.severity, silent.count), (Severity::Warning, 1));
    let words =
        "said nothing from 2023-11-14T22:13:39.002Z to 2023-11-14T22:15:00.002Z, for 81.0 s, although it was asked 81 times";
    assert!(silent.message.ends_with(words), "{}", silent.message);
}

#[test]
fn a_server_that_nobody_asks_is_not_silent_unless_it_used_to_speak() {
    for (speaks, every_ms) in [(true, 1000.0), (true, 60_000.0), (false, 1000.0)] {
        let mut site = Site::new(Vec::new());
        let mut talk = opened(&mut site, CLIENT, "10.0.0.8:20000");
        for round in 0..20 {
            let ms = 100.0 + f64::from(round) * every_ms;
            if !speaks {
                site.at(ms, talk.send(false, b"x"));
            }
            site.at(ms + 1.0, talk.send(true, b"y"));
            site.at(ms + 2.0, talk.ack(false));
        }
        // An acknowledgement asks nothing.
        (0..10).for_each(|round| _ = site.at(20.0 * every_ms + f64::from(round) * 10_000.0, talk.ack(false)));
        let report = site.analysis.report();
        let silent = report.findings.iter().find(|finding| finding.code == "host.silent");
        assert_eq!(silent.is_some(), speaks && every_ms < 2000.0, "{speaks} {every_ms}: {:#?}", report.findings);
        assert!(
            silent.is_none_or(|silent| silent.message.contains("spoke by itself every 1.0 s at the latest until")),
            "{silent:?}"
        );
    }
}

#[test]
fn a_capture_of_one_direction_says_so() {
    let mut site = Site::new(Vec::new());
    let mut talk = Conversation::new(CLIENT, DEVICE);
    for round in 0..6_u16 {
        site.at(f64::from(round) * 100.0, talk.send(false, &read(round, 0)));
    }
    assert!(found(&site.analysis.report()).contains(&"capture.one_sided"));
}

#[test]
fn connections_of_one_direction_count_also_when_they_are_no_longer_remembered() {
    let mut site = Site::new(Vec::new());
    for round in 0..3_u16 {
        let mut talk = Conversation::new(CLIENT, DEVICE);
        talk.next = [10_000 * u32::from(round + 1), 9];
        let ms = 10_000.0 * f64::from(round);
        // On the same ports, each in the place of the one before.
        site.at(ms, talk.syn());
        talk.syn_ack();
        site.at(ms + 1.0, talk.ack(false));
        for number in 0..6 {
            site.at(ms + 100.0 * f64::from(number + 1), talk.send(false, &read(number, 0)));
            talk.send(true, &value(number, 1));
        }
    }
    let report = site.analysis.report();
    assert_eq!(find(&report.findings, "capture.one_sided").count, 3, "{:#?}", report.findings);
}

#[test]
fn of_what_has_one_direction_only_nothing_is_said_but_that() {
    for (side, has_handshake) in [(false, true), (false, false), (true, true), (true, false)] {
        let mut site = Site::new(Vec::new());
        let mut talk = Conversation::new(CLIENT, DEVICE);
        let [syn, syn_ack, ack] = talk.handshake();
        if has_handshake {
            let frames = if side { vec![syn_ack] } else { vec![syn, ack] };
            site.all(0.0, frames);
        }
        for round in 0..100_u16 {
            let frames = [talk.send(false, &read(round, 0)), talk.send(true, &value(round, 1))];
            site.at(1000.0 * f64::from(round + 1), &frames[usize::from(side)]);
        }
        site.wait_until(103_000.0);
        let report = site.analysis.report();
        assert_eq!(found(&report), ["capture.one_sided"], "{side} {has_handshake}: {:#?}", report.findings);
        assert_eq!(report.servers[0].modbus.as_ref().unwrap().unanswered, 0);
        assert_eq!(report.servers[0].tcp.unanswered, 0);
    }
    // Nothing of the server, and nothing that speaks of it: the server is dead.
    let mut site = Site::new(Vec::new());
    let mut talk = Conversation::new(CLIENT, DEVICE);
    let frame = talk.send(false, &read(1, 0));
    (0..4).for_each(|round| _ = site.at(1000.0 * f64::from(round), &frame));
    site.wait_until(20_000.0);
    assert!(found(&site.analysis.report()).contains(&"modbus.unanswered"));
}

#[test]
fn heartbeats_change_freeze_or_are_not_asked_for() {
    let watch = |id: &str, offset| HeartbeatWatch {
        id: id.to_owned(),
        component: "bms".to_owned(),
        kind: HeartbeatKind::Read,
        client: None,
        server: socket(DEVICE),
        unit_id: Some(255),
        register_type: RegisterType::Input,
        wire_offset: offset,
        size: 1,
        timeout: None,
    };
    let mut site = Site::new(Vec::new());
    site.analysis = std::mem::replace(&mut site.analysis, Analysis::new(AnalysisSettings::default(), Vec::new(), Vec::new()))
        .with_heartbeats(vec![watch("alive", 1), watch("dead", 2), watch("forgotten", 3)]);
    let mut talk = opened(&mut site, CLIENT, DEVICE);
    for round in 0..20_u16 {
        let ms = f64::from(round) * 1000.0;
        for (offset, counts) in [(1_u8, true), (2, false)] {
            let id = round * 2 + u16::from(offset);
            site.at(ms + f64::from(offset), talk.send(false, &read(id, offset)));
            site.at(ms + f64::from(offset) + 0.5, talk.send(true, &value(id, if counts { round as u8 } else { 42 })));
        }
    }
    let report = site.analysis.report();
    let conditions: Vec<_> = report.heartbeats.iter().map(|heartbeat| (heartbeat.id.as_str(), heartbeat.condition)).collect();
    let expected = [
        ("alive", HeartbeatCondition::Changing),
        ("dead", HeartbeatCondition::Frozen),
        ("forgotten", HeartbeatCondition::NotPolled),
    ];
    assert_eq!(conditions, expected);
    assert_eq!(found(&report), ["heartbeat.frozen", "heartbeat.not_seen"]);
    assert!(
        report.reasons[0].contains("the heartbeat dead of bms (offset 2 at 10.0.0.5:502) stays at 42"),
        "{}",
        report.reasons[0]
    );
    assert_eq!((report.heartbeats[0].changes, report.heartbeats[0].value), (19, Some(19)));
    // Nobody asks for any of them any more.
    site.wait_until(130_000.0);
    let report = site.analysis.report();
    let not_seen: Vec<_> = report.findings.iter().filter(|finding| finding.code == "heartbeat.not_seen").collect();
    assert!(
        report.heartbeats.iter().all(|heartbeat| heartbeat.condition != HeartbeatCondition::Changing),
        "{:#?}",
        report.heartbeats
    );
    assert!(
        not_seen
            .iter()
            .any(|finding| finding.message.contains("alive of bms") && finding.message.contains("is read no more since"))
    );
}

#[test]
fn heartbeats_of_a_server_with_which_nobody_speaks_are_one_thing() {
    for (seconds, told) in [(5.0, 0), (30.0, 1)] {
        let mut site = Site::new(Vec::new());
        let watch = |number: u16| HeartbeatWatch {
            id: format!("life_{number}"),
            component: "bms".to_owned(),
            kind: HeartbeatKind::Read,
            client: None,
            server: socket(DEVICE),
            unit_id: None,
            register_type: RegisterType::Holding,
            wire_offset: number,
            size: 1,
            timeout: None,
        };
        site.analysis = std::mem::replace(&mut site.analysis, Analysis::new(AnalysisSettings::default(), Vec::new(), Vec::new()))
            .with_heartbeats((0..7).map(watch).collect());
        site.wait_until(0.0);
        site.wait_until(seconds * 1000.0);
        let report = site.analysis.report();
        assert_eq!(report.findings.len(), told, "{:#?}", report.findings);
        if told > 0 {
            let message = "nobody asks 10.0.0.5:502 by Modbus, so that the heartbeats life_0, life_1, life_2, life_3, life_4 and 2 more are not polled";
            assert_eq!((report.findings[0].code.as_str(), report.findings[0].message.as_str()), ("heartbeat.not_seen", message));
        }
    }
}

#[test]
fn what_no_config_says_is_told_when_configs_are_known() {
    let watches = vec![outbound(ID, Protocol::Modbus, DEVICE), outbound("quiet", Protocol::Modbus, "10.0.0.6:502")];
    let expected = |id: &str, unit_ids: &[u8]| Expectation {
        endpoint_id: id.to_owned(),
        unit_ids: unit_ids.to_vec(),
        ..Expectation::default()
    };
    let mut site = Site::new(Vec::new());
    site.analysis = Analysis::new(AnalysisSettings::default(), watches, Vec::new())
        .with_expectations(vec![expected(ID, &[1, 255]), expected("quiet", &[1])]);
    for (server, unit) in [(DEVICE, 255), (DEVICE, 9), ("10.0.0.7:502", 1)] {
        let mut talk = opened(&mut site, &format!("10.0.0.1:{}", 41000 + u16::from(unit)), server);
        site.at(10.0, talk.send(false, &adu(1, unit, &[4, 0, 0, 0, 1])));
        site.at(11.0, talk.send(true, &adu(1, unit, &[4, 2, 0, 1])));
    }
    let report = site.analysis.report();
    assert_eq!(found(&report), ["site.unit_unknown", "site.unknown_server", "site.device_elsewhere", "site.never_seen"]);
    assert!(find(&report.findings, "site.unit_unknown").message.contains("for unit 9"));
    assert!(find(&report.findings, "site.unknown_server").message.contains("10.0.0.7:502 is asked by modbus from 10.0.0.1"));
    assert_eq!(find(&report.findings, "site.never_seen").endpoint_id.as_deref(), Some("quiet"));
}

/// The same with configs: what they are called, whom they are for, and where they listen.
fn configured(endpoints: &[(Watch, Expectation)], local: &[&str]) -> Site {
    let (watches, expectations): (Vec<_>, Vec<_>) = endpoints.iter().cloned().unzip();
    let mut site = Site::new(Vec::new());
    let local: Vec<IpAddr> = local.iter().map(|address| ip_of(address)).collect();
    site.analysis =
        Analysis::new(AnalysisSettings::default(), watches, Vec::new()).with_listeners_at(&local).with_expectations(expectations);
    site
}

fn device(id: &str, address: &str, units: &[u8]) -> (Watch, Expectation) {
    let expected = Expectation {
        endpoint_id: id.to_owned(),
        name: Some(format!("{id}_component")),
        unit_ids: units.to_vec(),
        ..Expectation::default()
    };
    (outbound(id, Protocol::Modbus, address), expected)
}

fn listener(id: &str, port: u16) -> (Watch, Expectation) {
    let (watch, expected) = device(id, &format!("0.0.0.0:{port}"), &[]);
    (Watch { direction: Direction::Inbound, address: None, ..watch }, expected)
}

/// Some polls that are answered. Gives the number of the packet that opens the connection.
fn polled(site: &mut Site, client: &str, server: &str, unit: u8) -> u64 {
    let (first, mut talk) = (site.number + 1, opened(site, client, server));
    for round in 0..3_u16 {
        let ms = 10.0 + f64::from(round) * 1000.0;
        site.at(ms, talk.send(false, &adu(round, unit, &[4, 0, 0, 0, 1])));
        site.at(ms + 1.0, talk.send(true, &adu(round, unit, &[4, 2, 0, 1])));
    }
    first
}

#[test]
fn a_config_that_listens_on_all_addresses_hides_no_stranger() {
    let strangers = ["10.0.0.7:502", "10.0.0.8:502"];
    for (local, devices, told) in [
        (vec!["10.0.0.1"], 0, vec![Severity::Warning; 2]),
        (vec!["10.0.0.1", "10.0.0.7"], 0, vec![Severity::Warning]),
        // The controller is the one that asks several of the configured devices.
        (vec![], 2, vec![Severity::Warning; 2]),
        // Nothing tells who the controller is: of two that may be it, one is not; one alone may well be.
        (vec![], 0, vec![Severity::Warning; 2]),
    ] {
        let endpoints = [listener("all", 502), device("a", "10.0.1.1:502", &[1]), device("b", "10.0.1.2:502", &[1])];
        let mut site = configured(&endpoints[..=devices], &local);
        strangers.iter().for_each(|stranger| _ = polled(&mut site, "10.0.0.1:40000", stranger, 1));
        endpoints.iter().skip(1).take(devices).for_each(|(watch, _)| {
            _ = polled(&mut site, "10.0.0.1:41000", &format!("{}:502", watch.address.unwrap()), 1);
        });
        let report = site.analysis.report();
        let unknown: Vec<_> = report.findings.iter().filter(|finding| finding.code == "site.unknown_server").collect();
        assert_eq!(unknown.iter().map(|finding| finding.severity).collect::<Vec<_>>(), told, "{local:?}: {unknown:#?}");
        assert!(unknown.iter().all(|finding| finding.endpoint_id.is_none() && finding.first_at < finding.last_at));
        assert!(unknown.iter().all(|finding| !finding.message.contains("all_component")), "{unknown:#?}");
    }
    let mut site = configured(&[listener("all", 502)], &[]);
    polled(&mut site, "10.0.0.9:40000", "10.0.0.1:502", 1);
    let report = site.analysis.report();
    let unknown = find(&report.findings, "site.unknown_server");
    assert_eq!((report.verdict, unknown.severity), (AnalysisVerdict::Clean, Severity::Info));
    assert!(unknown.message.contains("unless it is the host with a config that listens on port 502"), "{}", unknown.message);
}

#[test]
fn clients_that_no_config_is_for_are_told() {
    // By what this host's addresses are, by who asks the other devices, and by there being more clients than configs.
    for (local, others) in [(vec!["10.0.0.1"], 0), (vec![], 1), (vec![], 0)] {
        let endpoints = [device("a", DEVICE, &[1]), device("b", "10.0.0.6:502", &[1])];
        let mut site = configured(&endpoints[..=others], &local);
        polled(&mut site, "10.0.0.1:40000", DEVICE, 1);
        if others > 0 {
            polled(&mut site, "10.0.0.1:40001", "10.0.0.6:502", 1);
        }
        assert!(!found(&site.analysis.report()).contains(&"site.unknown_client"));
        let first = polled(&mut site, "10.0.0.66:40000", DEVICE, 1);
        let report = site.analysis.report();
        let told = find(&report.findings, "site.unknown_client");
        assert!(told.message.starts_with("10.0.0.5:502 (a_component) is asked by ") && told.message.contains("10.0.0.66"));
        assert_eq!((told.severity, told.endpoint_id.as_deref()), (Severity::Warning, Some("a")));
        assert!(told.packets.contains(&first) && told.first_at < told.last_at, "{told:#?}");
    }
}

#[test]
fn clients_are_no_strangers_where_this_host_does_not_ask() {
    let mut site = configured(&[device("a", DEVICE, &[1])], &["192.168.0.1"]);
    polled(&mut site, "10.0.0.1:40000", DEVICE, 1);
    assert_eq!(found(&site.analysis.report()), Vec::<&str>::new(), "the capture is of another host");
}

#[test]
fn a_server_that_is_asked_in_vain_and_in_no_config_is_told() {
    let mut site = configured(&[device("a", DEVICE, &[1])], &["10.0.0.1"]);
    polled(&mut site, "10.0.0.1:40000", DEVICE, 1);
    let number = site.at(5000.0, Conversation::new("10.0.0.1:40001", "10.0.0.77:502").syn());
    site.wait_until(20_000.0);
    let report = site.analysis.report();
    let unknown = find(&report.findings, "site.unknown_server");
    assert_eq!(unknown.packets, [number]);
    assert_eq!(unknown.message, "10.0.0.77:502 is asked in vain for modbus by 10.0.0.1, and no config names it");
}

#[test]
fn an_endpoint_that_a_minute_does_not_show_is_a_warning() {
    let (watch, dnp3) = listener("outstation", 20_000);
    let dnp3 = Expectation { links: vec![(1, 10)], ..dnp3 };
    let endpoints = [device("a", DEVICE, &[1]), (Watch { protocol: Protocol::Dnp3, ..watch }, dnp3), listener("all", 1502)];
    for (ms, severity) in [(30_000.0, Severity::Info), (60_000.0, Severity::Warning)] {
        let mut site = configured(&endpoints, &["10.0.0.1"]);
        site.wait_until(0.0);
        site.wait_until(ms);
        let report = site.analysis.report();
        let severities: Vec<_> =
            report.findings.iter().map(|finding| (finding.endpoint_id.as_deref().unwrap_or_default(), finding.severity)).collect();
        let mut expected = vec![("a", severity), ("outstation", severity), ("all", Severity::Info)];
        expected.sort_by_key(|(_, severity)| std::cmp::Reverse(*severity));
        assert_eq!(severities, expected, "{:#?}", report.findings);
        assert!(report.findings.iter().all(|finding| finding.first_at < finding.last_at));
        assert!(report.findings[0].message.contains("10.0.0.5:502 (a_component)"), "{}", report.findings[0].message);
    }
}

#[test]
fn a_modbus_device_that_answers_at_another_address_is_told_when_only_one_fits() {
    for (strangers, is_told) in
        [(vec!["10.0.0.9:502"], true), (vec!["10.0.0.9:502", "10.0.0.10:502"], false), (vec!["10.0.0.9:503"], false)]
    {
        let mut site = configured(&[device("a", DEVICE, &[7])], &["10.0.0.1"]);
        strangers.iter().for_each(|stranger| _ = polled(&mut site, "10.0.0.1:40000", stranger, 7));
        let report = site.analysis.report();
        let told = report.findings.iter().find(|finding| finding.code == "site.device_elsewhere");
        assert_eq!(told.is_some(), is_told, "{strangers:?}: {:#?}", report.findings);
        if let Some(told) = told {
            assert!(told.message.ends_with("one that fits answers at 10.0.0.9:502"), "{}", told.message);
            assert!(told.packets.contains(&1) && told.first_at < told.last_at);
        }
    }
}

#[test]
fn trouble_of_the_network_around_is_part_of_the_report() {
    let mut site = Site::with(AnalysisSettings { storm_per_s: 50, ..AnalysisSettings::default() }, Vec::new());
    let question = arp(1, [2, 0, 0, 0, 0, 1], std::net::Ipv4Addr::new(10, 0, 0, 9), std::net::Ipv4Addr::new(10, 0, 0, 9));
    (0..60).for_each(|number| _ = site.at(f64::from(number), &question));
    let bridges = [0x01, 0x80, 0xc2, 0, 0, 0, 2, 0, 0, 0, 0, 7, 0, 7, 0x42, 0x42, 3, 0, 0, 0, 0x80];
    site.at(100.0, bridges);
    let datagram = udp(socket("10.0.0.1:9"), socket("10.0.0.9:9"), &[]);
    site.at(101.0, icmp_error(ip_of("10.0.0.254"), 5, 1, &datagram));
    site.analysis.set_dropped(12);
    let report = site.analysis.report();
    assert_eq!(found(&report), ["link.broadcast_storm", "capture.dropped", "link.topology_change", "icmp.redirect"]);
    assert_eq!(report.dropped, 12);
}

#[test]
fn no_packet_is_no_clean_bill() {
    let report = Site::new(Vec::new()).analysis.report();
    assert_eq!(
        (report.verdict, report.first_at, report.text.contains("nothing can be said")),
        (AnalysisVerdict::Clean, None, true)
    );
}

#[test]
fn each_conversation_has_its_own_figures() {
    let mut site = Site::modbus();
    let mut good = opened(&mut site, "10.0.0.1:40000", DEVICE);
    let mut bad = opened(&mut site, "10.0.0.2:40000", DEVICE);
    for round in 0..4_u16 {
        let ms = 100.0 + f64::from(round) * 5000.0;
        site.at(ms, good.send(false, &read(round, 1)));
        site.at(ms + 10.0, good.send(true, &value(round, 1)));
        site.at(ms + 20.0, bad.send(false, &read(round, 2)));
        if round == 1 {
            site.at(ms + 50.0, bad.send(true, &adu(round, 255, &[0x84, 2])));
        }
    }
    site.at(16_000.0, bad.rst(true));
    // A new connection on the same ports: what is known of the old one is kept.
    site.all(16_100.0, Conversation::new("10.0.0.2:40000", DEVICE).handshake());
    site.wait_until(30_000.0);
    let report = site.analysis.report();
    let clients = &report.servers[0].clients;
    let figures: Vec<_> = clients
        .iter()
        .map(|client| (client.requests, client.responses, client.exceptions, client.unanswered, client.resets))
        .collect();
    assert_eq!(figures, [(4, 4, 0, 0, 0), (4, 1, 1, 3, 1)]);
    for (client, ms) in clients.iter().zip([10.0, 30.0]) {
        let times = client.response_ms.unwrap();
        assert_eq!((times.min, times.median, times.p99, times.max), (ms, Some(ms), Some(ms), ms), "{:?}", client.address);
    }
}

/// Modbus on a port that nobody named, seen from its beginning or not; `low_client`: the client has the lower port.
#[test]
fn a_server_on_a_port_that_nobody_named_is_told_apart() {
    for (begins, client, server) in [
        (true, "10.0.0.1:40000", "10.0.0.5:5020"),
        (false, "10.0.0.1:40000", "10.0.0.5:5020"),
        (false, "10.0.0.1:1234", "10.0.0.5:5020"),
    ] {
        let mut site = Site::new(Vec::new());
        let mut talk = Conversation::new(client, server);
        let handshake = talk.handshake();
        if begins {
            site.all(0.0, handshake);
        }
        for round in 0..10_u16 {
            let ms = 100.0 + 1000.0 * f64::from(round);
            site.at(ms, talk.send(false, &read(round, 0)));
            site.at(ms + 4.0, talk.send(true, &value(round, 1)));
        }
        let report = site.analysis.report();
        assert_eq!(found(&report), Vec::<&str>::new(), "{begins} {client}");
        let of_modbus = report.servers.iter().find(|server| server.modbus.is_some()).unwrap();
        assert_eq!(of_modbus.address.zip(of_modbus.port), Some((ip_of("10.0.0.5"), 5020)), "{begins} {client}");
        assert_eq!(of_modbus.protocol, Some(Protocol::Modbus));
        let modbus = of_modbus.modbus.as_ref().unwrap();
        assert_eq!((modbus.requests, modbus.responses, modbus.response_ms.unwrap().max), (10, 10, 4.0), "{begins} {client}");
        assert_eq!((of_modbus.clients.len(), of_modbus.clients[0].connections), (1, 1));
    }
}

#[test]
fn what_a_device_that_connects_answers_is_its_own() {
    // By the port from which it connects it is a Modbus server.
    let mut site = configured(&[device("a", "10.0.0.8:502", &[255])], &["10.0.0.57"]);
    let mut talk = opened(&mut site, "10.0.0.8:502", "10.0.0.57:4446");
    for round in 0..5_u16 {
        let ms = 100.0 + 1000.0 * f64::from(round);
        site.at(ms, talk.send(true, &read(round, 0)));
        if round < 3 {
            site.at(ms + 4.0, talk.send(false, &value(round, 1)));
        }
    }
    site.wait_until(20_000.0);
    let report = site.analysis.report();
    let unanswered = find(&report.findings, "modbus.unanswered");
    assert!(
        unanswered.message.starts_with("2 of 5 Modbus requests to 10.0.0.8:502 (a_component) had no answer"),
        "{}",
        unanswered.message
    );
    assert!(!found(&report).iter().any(|code| code.starts_with("site.")), "{:#?}", report.findings);
    let serves = report.servers.iter().find(|server| server.address == Some(ip_of("10.0.0.8"))).unwrap();
    assert_eq!((serves.clients[0].address, serves.clients[0].requests), (Some(ip_of("10.0.0.57")), 5));
}
