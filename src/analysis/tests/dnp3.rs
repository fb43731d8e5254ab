//! DNP3 messages out of segments.

use super::*;
use crate::api::Severity;
use crate::protocol::dnp3::{self, Application, Control, Function, Indications, LinkFunction, LinkHeader, objects};

const OUTSTATION: &str = "10.0.0.8:20000";
const MASTER: &str = "10.0.0.1:41000";
const DNP3_ID: &str = "dnp3_10.0.0.8_20000";

fn from_master(application: Application, objects: &[u8]) -> Vec<u8> {
    dnp3::frames(LinkHeader::from_master(LinkFunction::UnconfirmedUserData, 10, 1), 63, &application.bytes(objects))
}

fn from_outstation(application: Application, objects: &[u8]) -> Vec<u8> {
    dnp3::frames(LinkHeader::from_outstation(LinkFunction::UnconfirmedUserData, 1, 10), 63, &application.bytes(objects))
}

fn poll(sequence: u8) -> Vec<u8> {
    from_master(Application::request(Control::request(sequence), Function::READ), &objects::CLASS_1230)
}

/// Of several transport segments, whose sequence wraps.
fn answer(sequence: u8, indications: Indications) -> Vec<u8> {
    from_outstation(Application::response(Control::request(sequence), indications), &objects::analog_inputs(&[7; 200]))
}

fn open() -> (Site, Conversation) {
    let mut site = Site::new(vec![outbound(DNP3_ID, Protocol::Dnp3, OUTSTATION)]);
    let mut talk = Conversation::new(MASTER, OUTSTATION);
    site.all(0.0, talk.handshake());
    (site, talk)
}

#[test]
fn polls_and_responses_are_matched_by_sequence() {
    let (mut site, mut talk) = open();
    for round in 0..20_u8 {
        let ms = 10.0 + f64::from(round) * 1000.0;
        site.at(ms, talk.send(false, &poll(round & 15)));
        site.at(ms + 30.0, talk.send(true, &answer(round & 15, Indications::default())));
    }
    let evidence = site.evidence_of(DNP3_ID, &[]);
    let view = evidence.wire.dnp3.unwrap();
    assert_eq!((view.frames, view.requests, view.responses, view.unanswered), (20 + 60, 20, 20, 0));
    assert_eq!(view.response_ms.unwrap().max, 30.0);
    assert!(evidence.findings.is_empty(), "{:#?}", evidence.findings);
    assert!(evidence.session.answered);
}

#[test]
fn split_at_any_boundary_is_as_whole() {
    let bytes = answer(3, Indications::default());
    for cut in (0..=bytes.len()).step_by(7) {
        let (mut site, mut talk) = open();
        site.at(10.0, talk.send(false, &poll(3)));
        let (left, right) = bytes.split_at(cut);
        site.all(11.0, [left, right].into_iter().filter(|part| !part.is_empty()).map(|part| talk.send(true, part)));
        let view = site.evidence_of(DNP3_ID, &[]).wire.dnp3.unwrap();
        assert_eq!((view.frames, view.responses), (4, 1), "cut at {cut}");
    }
}

#[test]
fn a_poll_without_an_answer_names_the_function_and_the_addresses() {
    let (mut site, mut talk) = open();
    site.at(10.0, talk.send(false, &poll(0)));
    site.wait_until(2500.0);
    let evidence = site.evidence_of(DNP3_ID, &[]);
    assert!(!evidence.session.answered);
    let message = &find(&evidence.findings, "dnp3.unanswered").message;
    assert_eq!(
        message,
        "1 of 1 DNP3 request at 10.0.0.8:20000 had no answer within 2 s: read (function 1), master 1 to outstation 10 (once)"
    );
}

#[test]
fn broadcasts_and_confirmations_wait_for_no_answer() {
    let (mut site, mut talk) = open();
    let header = LinkHeader::from_master(LinkFunction::UnconfirmedUserData, 0xFFFF, 1);
    let write = Application::request(Control::request(1), Function::WRITE).bytes(&objects::time_and_date(0));
    site.at(10.0, talk.send(false, &dnp3::frames(header, 0, &write)));
    site.at(11.0, talk.send(false, &from_master(Application::request(Control::request(2), Function::CONFIRM), &[])));
    site.wait_until(9000.0);
    let evidence = site.evidence_of(DNP3_ID, &[]);
    assert_eq!(evidence.wire.dnp3.unwrap().requests, 1, "a confirmation is no request");
    assert!(evidence.findings.is_empty());
}

#[test]
fn unsolicited_reports_and_whether_they_are_confirmed() {
    let (mut site, mut talk) = open();
    for round in 0..3_u8 {
        let ms = f64::from(round) * 1000.0;
        let report = Application::unsolicited(round, Indications::default());
        site.at(ms, talk.send(true, &from_outstation(report, &objects::analog_event(1, 5))));
        if round != 1 {
            let confirmation = Application::request(report.control.confirmation(), Function::CONFIRM);
            site.at(ms + 5.0, talk.send(false, &from_master(confirmation, &[])));
        }
    }
    site.wait_until(9000.0);
    let evidence = site.evidence_of(DNP3_ID, &[]);
    let view = evidence.wire.dnp3.unwrap();
    assert_eq!((view.unsolicited, view.requests, view.responses), (3, 0, 0));
    let finding = find(&evidence.findings, "dnp3.unconfirmed");
    assert_eq!((finding.count, finding.packets.clone()), (1, vec![6]));
}

#[test]
fn indications_in_words_and_whether_they_stay() {
    let (mut site, mut talk) = open();
    let restarted = Indications::DEVICE_RESTART.with(Indications::NEED_TIME);
    for (round, indications) in [(0, restarted), (1, restarted), (2, Indications::NEED_TIME)] {
        site.at(f64::from(round) * 100.0, talk.send(false, &poll(round)));
        site.at(f64::from(round) * 100.0 + 5.0, talk.send(true, &answer(round, indications)));
    }
    let findings = site.evidence_of(DNP3_ID, &[]).findings;
    let restart = &find(&findings, "dnp3.device_restart").message;
    assert_eq!(restart, "the outstation at 10.0.0.8:20000 says \"device restart\" in 2 of 3 responses, no longer set at the end");
    let need_time = &find(&findings, "dnp3.need_time").message;
    assert_eq!(need_time, "the outstation at 10.0.0.8:20000 says \"need time\" in 3 of 3 responses, still set at the end");
}

#[test]
fn damaged_frames_are_counted_and_the_next_ones_read() {
    let (mut site, mut talk) = open();
    let (mut header, mut data) = (poll(1), poll(2));
    header[8] ^= 1;
    data[12] ^= 1;
    site.at(10.0, talk.send(false, &[header, data, poll(3)].concat()));
    let evidence = site.evidence_of(DNP3_ID, &[]);
    let view = evidence.wire.dnp3.unwrap();
    assert_eq!((view.crc_errors, view.requests, view.frames), (2, 1, 2));
    let report = site.analysis.report().servers[0].dnp3.clone().unwrap();
    assert_eq!(
        report.link_functions.iter().map(|of| of.frames).sum::<u64>(),
        report.frames,
        "what a damaged one was for its header says"
    );
    let message = &find(&evidence.findings, "dnp3.crc_errors").message;
    assert_eq!(message, "2 DNP3 frames to or from 10.0.0.8:20000 with a wrong check sum (1 in the header, 1 in the data)");
}

#[test]
fn an_outstation_that_calls_its_master_is_read_too() {
    let mut site = Site::new(Vec::new());
    let mut talk = Conversation::new("10.0.0.8:55555", "10.0.0.1:20000");
    site.all(0.0, talk.handshake());
    site.at(10.0, talk.send(true, &poll(4)));
    site.at(12.0, talk.send(false, &answer(4, Indications::default())));
    let view = site.analysis.counters().wire.dnp3.unwrap();
    assert_eq!((view.requests, view.responses), (1, 1));
}

#[test]
fn over_udp_too() {
    let mut site = Site::new(Vec::new());
    site.at(0.0, udp(socket(MASTER), socket(OUTSTATION), &poll(1)));
    site.at(3.0, udp(socket(OUTSTATION), socket(MASTER), &answer(1, Indications::default())));
    let view = site.analysis.counters().wire.dnp3.unwrap();
    assert_eq!((view.frames, view.requests, view.responses), (4, 1, 1));
}

#[test]
fn link_frames_are_counted_by_function_and_direction() {
    let (mut site, mut talk) = open();
    let (mut status, mut state) = (Vec::new(), Vec::new());
    LinkHeader::from_master(LinkFunction::RequestLinkStatus, 10, 1).encode(&[], &mut status);
    LinkHeader::from_outstation(LinkFunction::LinkStatus, 1, 10).encode(&[], &mut state);
    for round in 0..3 {
        site.at(10.0 + f64::from(round), talk.send(false, &status));
        site.at(10.5 + f64::from(round), talk.send(true, &state));
    }
    site.at(20.0, talk.send(false, &poll(0)));
    let report = site.analysis.report();
    let functions = &report.servers[0].dnp3.as_ref().unwrap().link_functions;
    let told: Vec<_> = functions.iter().map(|kind| (kind.function.as_str(), kind.from_master, kind.frames)).collect();
    assert_eq!(told, [("request link status", true, 3), ("link status", false, 3), ("unconfirmed user data", true, 1)]);
}

#[test]
fn datagrams_on_any_port_are_recognised_and_the_direction_bit_tells_the_outstation() {
    let (master, outstation) = (socket("10.0.0.1:40000"), socket("10.0.0.8:30123"));
    let mut site = Site::new(Vec::new());
    // The capture begins with an answer; by the ports alone the master would be the server.
    site.at(
        0.0,
        udp(outstation, master, &from_outstation(Application::response(Control::request(1), Indications::default()), &[])),
    );
    site.at(10.0, udp(master, outstation, &poll(2)));
    site.at(30.0, udp(outstation, master, &answer(2, Indications::default())));
    site.at(40.0, udp(socket("10.0.0.2:5000"), socket("10.0.0.3:5001"), b"\x05\x64 no frame"));
    let report = site.analysis.report();
    assert_eq!(report.servers.len(), 1);
    let server = &report.servers[0];
    assert_eq!((server.address, server.port), (Some(outstation.ip()), Some(outstation.port())));
    let dnp3 = server.dnp3.as_ref().unwrap();
    assert_eq!((dnp3.requests, dnp3.responses, dnp3.response_ms.unwrap().max), (1, 1, 20.0));
}

#[test]
fn a_datagram_that_another_address_answers_is_told() {
    let (master, outstation, other) = (socket("10.0.0.1:20000"), socket("10.0.0.6:20000"), socket("10.0.0.7:20000"));
    for answers in [outstation, other] {
        let mut site = Site::new(Vec::new());
        for round in 0..3_u8 {
            let ms = f64::from(round) * 5000.0;
            site.at(ms, udp(master, outstation, &poll(round)));
            site.at(ms + 20.0, udp(answers, master, &answer(round, Indications::default())));
        }
        site.wait_until(30_000.0);
        let report = site.analysis.report();
        let told: Vec<_> = report.findings.iter().filter(|finding| finding.code == "tcp.answer_from_elsewhere").collect();
        assert_eq!(told.len(), usize::from(answers == other), "{:#?}", report.findings);
        assert!(report.servers.iter().all(|server| server.address != Some(master.ip())), "{:#?}", report.servers);
        if let [told] = told[..] {
            assert_eq!(told.message, "10.0.0.6:20000 was asked for DNP3 by UDP, and 10.0.0.7:20000 answered in its place");
        }
    }
}

#[test]
fn an_outstation_that_connects_to_its_master_is_the_one_that_serves() {
    use crate::analysis::Expectation;
    let expected = Expectation { endpoint_id: DNP3_ID.into(), links: vec![(1, 10)], ..Expectation::default() };
    let mut site = Site::new(Vec::new());
    site.analysis = Analysis::new(AnalysisSettings::default(), vec![outbound(DNP3_ID, Protocol::Dnp3, OUTSTATION)], Vec::new())
        .with_expectations(vec![expected]);
    let mut talk = Conversation::new("10.0.0.8:41000", "10.0.0.1:20000");
    site.all(0.0, talk.handshake());
    for round in 0..5 {
        let ms = 100.0 + f64::from(round) * 20_000.0;
        site.at(ms, talk.send(true, &poll(round)));
        site.at(ms + 5.0, talk.send(false, &answer(round, Indications::DEVICE_RESTART)));
    }
    let report = site.analysis.report();
    assert_eq!(codes(&report.findings), ["dnp3.device_restart"]);
    assert!(report.findings[0].message.contains("the outstation at 10.0.0.8:20000 says"), "{}", report.findings[0].message);
    assert_eq!(report.findings[0].endpoint_id.as_deref(), Some(DNP3_ID));
    let view = site.evidence_of(DNP3_ID, &[]).wire.dnp3.unwrap();
    assert_eq!((view.requests, view.responses, view.response_ms.unwrap().max), (5, 5, 5.0));
}

#[test]
fn an_outstation_that_speaks_at_another_address_than_its_config_says_is_told() {
    use crate::analysis::Expectation;
    let expected = Expectation { endpoint_id: DNP3_ID.into(), links: vec![(1, 10)], ..Expectation::default() };
    for (at, is_told) in [("10.0.0.9:20000", true), (OUTSTATION, false)] {
        let mut site = Site::new(Vec::new());
        site.analysis = Analysis::new(AnalysisSettings::default(), vec![outbound(DNP3_ID, Protocol::Dnp3, OUTSTATION)], Vec::new())
            .with_expectations(vec![expected.clone()]);
        let mut talk = Conversation::new(MASTER, at);
        site.all(0.0, talk.handshake());
        site.at(10.0, talk.send(false, &poll(0)));
        site.at(20.0, talk.send(true, &answer(0, Indications::default())));
        let report = site.analysis.report();
        let told = report.findings.iter().find(|finding| finding.code == "site.device_elsewhere");
        assert_eq!(told.is_some(), is_told, "{:#?}", report.findings);
        if let Some(told) = told {
            assert!(told.message.contains("outstation 10 is configured at 10.0.0.8:20000"), "{}", told.message);
            assert!(told.message.ends_with("it speaks at 10.0.0.9:20000"), "{}", told.message);
            assert_eq!(told.endpoint_id.as_deref(), Some(DNP3_ID));
        }
    }
}

#[test]
fn polls_that_go_round_the_sequence_within_the_time_out_are_answered_each() {
    let (mut site, mut talk) = open();
    for round in 0..200_u16 {
        let (ms, sequence) = (10.0 + f64::from(round) * 100.0, (round % 16) as u8);
        site.at(ms, talk.send(false, &poll(sequence)));
        if round != 50 {
            site.at(ms + 5.0, talk.send(true, &answer(sequence, Indications::default())));
        }
    }
    site.wait_until(60_000.0);
    let evidence = site.evidence_of(DNP3_ID, &[]);
    let view = evidence.wire.dnp3.unwrap();
    assert_eq!((view.requests, view.responses, view.unanswered, view.response_ms.unwrap().max), (200, 199, 1, 5.0));
    assert_eq!(codes(&evidence.findings), ["dnp3.unanswered"]);
    assert_eq!(evidence.findings[0].packets, [3 + 101], "the one that was lost");
}

#[test]
fn late_and_slow_responses_are_told() {
    let (mut site, mut talk) = open();
    for (round, takes) in [(0, 5.0), (1, 1500.0), (2, 2500.0)] {
        let ms = f64::from(round) * 5000.0;
        site.at(ms, talk.send(false, &poll(round)));
        site.at(ms + takes, talk.send(true, &answer(round, Indications::default())));
    }
    let evidence = site.evidence_of(DNP3_ID, &[]);
    let view = evidence.wire.dnp3.unwrap();
    assert_eq!((view.responses, view.unanswered, view.response_ms.unwrap().max), (3, 0, 2500.0));
    assert_eq!((find(&evidence.findings, "dnp3.late").count, find(&evidence.findings, "dnp3.slow").count), (1, 1));
}

/// A fragment of a response: its sequence, whether it is the first and the last one, and whether it asks to be confirmed.
fn fragment(sequence: u8, first: bool, last: bool, confirm: bool) -> Vec<u8> {
    let control = Control { first, last, confirm, unsolicited: false, sequence };
    from_outstation(Application::response(control, Indications::default()), &objects::analog_inputs(&[7; 10]))
}

#[test]
fn a_response_of_several_fragments_is_one_that_ends_with_the_last() {
    let (mut site, mut talk) = open();
    for round in 0..6_u8 {
        let (ms, first) = (f64::from(round) * 2000.0, (round * 3) & 15);
        let sequences = [first, (first + 1) & 15, (first + 2) & 15];
        site.at(ms, talk.send(false, &poll(first)));
        for (step, sequence) in sequences.into_iter().enumerate() {
            let ms = ms + 10.0 * (step + 1) as f64;
            site.at(ms, talk.send(true, &fragment(sequence, step == 0, step == 2, true)));
            let confirmation = Application::request(Control::request(sequence), Function::CONFIRM);
            site.at(ms + 2.0, talk.send(false, &from_master(confirmation, &[])));
        }
    }
    site.wait_until(60_000.0);
    let evidence = site.evidence_of(DNP3_ID, &[]);
    assert!(evidence.findings.is_empty(), "{:#?}", evidence.findings);
    let view = evidence.wire.dnp3.unwrap();
    let times = view.response_ms.unwrap();
    assert_eq!((view.requests, view.responses, view.unanswered, times.min, times.max), (6, 6, 0, 30.0, 30.0));
}

#[test]
fn a_response_whose_last_fragment_is_missing_is_none_and_a_confirm_can_be_missing_in_the_middle() {
    let (mut site, mut talk) = open();
    site.at(0.0, talk.send(false, &poll(0)));
    site.at(10.0, talk.send(true, &fragment(0, true, false, true)));
    // Nobody confirms, so it comes again; then the one in the middle is lost.
    site.at(20.0, talk.send(true, &fragment(0, true, false, true)));
    site.at(30.0, talk.send(true, &fragment(2, false, true, false)));
    site.wait_until(9000.0);
    let evidence = site.evidence_of(DNP3_ID, &[]);
    let view = evidence.wire.dnp3.unwrap();
    assert_eq!((view.responses, view.unanswered), (0, 1));
    assert_eq!(codes(&evidence.findings), ["dnp3.unanswered", "dnp3.unconfirmed"]);
    site.at(10_000.0, talk.send(false, &poll(1)));
    site.at(10_010.0, talk.send(true, &answer(1, Indications::default())));
    assert_eq!(site.evidence_of(DNP3_ID, &[]).wire.dnp3.unwrap().responses, 1);
}

#[test]
fn one_lost_transport_segment_is_one_message_that_lost_a_part() {
    let (mut site, mut talk) = open();
    for round in 0..4_u8 {
        let ms = f64::from(round) * 1000.0;
        site.at(ms, talk.send(false, &poll(round)));
        let mut bytes = from_outstation(
            Application::response(Control::request(round), Indications::default()),
            &objects::analog_inputs(&[7; 200]),
        );
        if round == 1 {
            // The first of its segments: a whole link frame of 292 bytes.
            bytes.drain(..292);
        }
        site.at(ms + 5.0, talk.send(true, &bytes));
    }
    site.wait_until(20_000.0);
    let evidence = site.evidence_of(DNP3_ID, &[]);
    let lost = find(&evidence.findings, "dnp3.segments_lost");
    assert_eq!((lost.count, lost.message.as_str()), (1, "1 DNP3 message to or from 10.0.0.8:20000 lost a part"));
    assert_eq!(find(&evidence.findings, "dnp3.unanswered").count, 1);
    assert_eq!(codes(&evidence.findings).len(), 2);
}

#[test]
fn device_trouble_a_corrupt_configuration_and_lost_events_are_told() {
    for (bit, code, severity) in [
        (Indications::DEVICE_TROUBLE, "dnp3.device_trouble", Severity::Alarm),
        (Indications::CONFIG_CORRUPT, "dnp3.config_corrupt", Severity::Alarm),
        (Indications::EVENT_BUFFER_OVERFLOW, "dnp3.event_buffer_overflow", Severity::Warning),
    ] {
        let (mut site, mut talk) = open();
        site.at(0.0, talk.send(false, &poll(0)));
        let number = site.at(5.0, talk.send(true, &answer(0, bit)));
        let findings = site.evidence_of(DNP3_ID, &[]).findings;
        assert_eq!(codes(&findings), [code]);
        assert_eq!((findings[0].severity, findings[0].packets.clone()), (severity, vec![number]));
    }
}

#[test]
fn masters_that_share_a_pair_of_link_addresses_are_told_and_one_that_takes_over_is_not() {
    let polls = |site: &mut Site, talk: &mut Conversation, from_ms: f64, every_ms: f64, count: u8| {
        for round in 0..count {
            let ms = from_ms + f64::from(round) * every_ms;
            site.at(ms, talk.send(false, &poll(round & 15)));
            site.at(ms + 5.0, talk.send(true, &answer(round & 15, Indications::default())));
        }
    };
    for (second, who) in [("10.0.0.2:41000", "10.0.0.2 and 10.0.0.1"), ("10.0.0.1:42000", "10.0.0.1:42000 and 10.0.0.1:41000")] {
        let (mut site, mut talk) = open();
        let mut other = Conversation::new(second, OUTSTATION);
        site.all(100.0, other.handshake());
        for round in 0..5 {
            polls(&mut site, &mut talk, 1000.0 + f64::from(round) * 1000.0, 0.0, 1);
            polls(&mut site, &mut other, 1500.0 + f64::from(round) * 1000.0, 0.0, 1);
        }
        let findings = site.evidence_of(DNP3_ID, &[]).findings;
        let told = find(&findings, "dnp3.two_masters");
        assert_eq!((told.severity, told.count, told.packets.len()), (Severity::Alarm, 8, 5));
        assert!(told.first_at < told.last_at);
        assert_eq!(told.message, format!("{who} ask {OUTSTATION} in turn as the same master 1 of outstation 10"));
    }
    let (mut site, mut talk) = open();
    polls(&mut site, &mut talk, 0.0, 1000.0, 10);
    let mut other = Conversation::new("10.0.0.2:41000", OUTSTATION);
    site.all(20_000.0, other.handshake());
    polls(&mut site, &mut other, 21_000.0, 1000.0, 10);
    assert!(!codes(&site.evidence_of(DNP3_ID, &[]).findings).contains(&"dnp3.two_masters"), "an orderly change");
}

#[test]
fn an_outstation_that_answers_from_another_link_address_is_told() {
    use crate::analysis::Expectation;
    let expected = Expectation { endpoint_id: DNP3_ID.into(), links: vec![(1, 10)], ..Expectation::default() };
    let elsewhere = |application: Application| {
        dnp3::frames(LinkHeader::from_outstation(LinkFunction::UnconfirmedUserData, 1, 11), 0, &application.bytes(&[]))
    };
    for unsolicited in [false, true] {
        let mut site = Site::new(Vec::new());
        let watches = vec![outbound(DNP3_ID, Protocol::Dnp3, OUTSTATION)];
        site.analysis = Analysis::new(AnalysisSettings::default(), watches, Vec::new()).with_expectations(vec![expected.clone()]);
        let mut talk = Conversation::new(MASTER, OUTSTATION);
        site.all(0.0, talk.handshake());
        if unsolicited {
            let report = Application { control: Control::request(0), ..Application::unsolicited(0, Indications::default()) };
            site.at(10.0, talk.send(true, &elsewhere(report)));
        } else {
            site.at(10.0, talk.send(false, &poll(0)));
            site.at(15.0, talk.send(true, &elsewhere(Application::response(Control::request(0), Indications::default()))));
        }
        let report = site.analysis.report();
        let links = &report.servers[0].dnp3.as_ref().unwrap().links;
        assert!(links.contains(&[1, 11]), "{links:?}");
        let told = find(&report.findings, "site.link_unknown");
        assert!(told.message.contains("master 1 to outstation 11"), "{}", told.message);
        assert_eq!(codes(&report.findings).contains(&"dnp3.wrong_address"), !unsolicited);
    }
}

#[test]
fn who_is_asked_by_the_self_address_answers_by_its_own() {
    use crate::analysis::Expectation;
    let ask = |confirmed: bool, destination: u16, sequence: u8| {
        let function = if confirmed { LinkFunction::ConfirmedUserData } else { LinkFunction::UnconfirmedUserData };
        let header = LinkHeader::from_master(function, destination, 1);
        let read = Application::request(Control::request(sequence), Function::READ);
        dnp3::frames(header, sequence, &read.bytes(&objects::CLASS_1230))
    };
    let expected = Expectation { endpoint_id: DNP3_ID.into(), links: vec![(1, 10)], ..Expectation::default() };
    let (mut site, mut talk) = open();
    site.analysis = site.analysis.with_expectations(vec![expected]);
    let mut acknowledged = Vec::new();
    LinkHeader::from_outstation(LinkFunction::Ack, 1, 10).encode(&[], &mut acknowledged);
    site.at(100.0, talk.send(false, &ask(false, dnp3::SELF_ADDRESS, 0)));
    site.at(105.0, talk.send(true, &answer(0, Indications::default())));
    site.at(1000.0, talk.send(false, &ask(true, dnp3::SELF_ADDRESS, 1)));
    site.at(1001.0, talk.send(true, &acknowledged));
    // In two fragments.
    site.at(1005.0, talk.send(true, &fragment(1, true, false, false)));
    site.at(1009.0, talk.send(true, &fragment(2, false, true, false)));
    // To all, which nobody answers.
    site.at(2000.0, talk.send(false, &ask(false, 0xFFFF, 2)));
    site.wait_until(20_000.0);
    let report = site.analysis.report();
    let dnp3 = report.servers[0].dnp3.as_ref().unwrap();
    assert_eq!((dnp3.requests, dnp3.responses, dnp3.unanswered, dnp3.wrong_address, dnp3.link_unacknowledged), (3, 2, 0, 0, 0));
    assert_eq!((dnp3.response_ms.unwrap().min, dnp3.response_ms.unwrap().max), (5.0, 9.0));
    assert!(dnp3.links.contains(&[1, 10]), "{:?}", dnp3.links);
    assert!(codes(&report.findings).is_empty(), "{:#?}", report.findings);
    // Nobody answers: that is told.
    site.at(21_000.0, talk.send(false, &ask(false, dnp3::SELF_ADDRESS, 3)));
    site.wait_until(30_000.0);
    let report = site.analysis.report();
    let unanswered = find(&report.findings, "dnp3.unanswered");
    assert!(unanswered.message.contains("master 1 to outstation 65532"), "{}", unanswered.message);
}

#[test]
fn link_frames_that_nobody_acknowledges_are_told() {
    let confirmed = |sequence: u8| {
        let read = Application::request(Control::request(sequence), Function::READ).bytes(&objects::CLASS_1230);
        dnp3::frames(LinkHeader::from_master(LinkFunction::ConfirmedUserData, 10, 1), sequence, &read)
    };
    let mut acknowledged = Vec::new();
    LinkHeader::from_outstation(LinkFunction::Ack, 1, 10).encode(&[], &mut acknowledged);
    for (acknowledges, count) in [(true, 0), (false, 5)] {
        let (mut site, mut talk) = open();
        for round in 0..5 {
            let ms = f64::from(round) * 1000.0;
            site.at(ms, talk.send(false, &confirmed(round)));
            if acknowledges {
                site.at(ms + 2.0, talk.send(true, &acknowledged));
            }
            site.at(ms + 5.0, talk.send(true, &answer(round, Indications::default())));
        }
        site.wait_until(20_000.0);
        let report = site.analysis.report();
        assert_eq!(report.servers[0].dnp3.as_ref().unwrap().link_unacknowledged, count);
        assert_eq!(codes(&report.findings).contains(&"dnp3.link_unacknowledged"), !acknowledges);
    }
}

#[test]
fn responses_that_the_snap_length_cut_are_matched_by_their_beginning() {
    // Ethernet, IP and TCP take 54 bytes, link header, transport byte and application header 13 more.
    for (snap, told) in [(68, true), (67, true), (66, false), (54, false)] {
        let (mut site, mut talk) = open();
        for round in 0..5 {
            let ms = 1000.0 + f64::from(round) * 1000.0;
            site.at(ms, talk.send(false, &poll(round)));
            for frame in segments(&answer(round, Indications::default())) {
                let whole = talk.send(true, frame);
                site.cut_at(ms + 5.0, &whole, snap);
            }
        }
        site.wait_until(20_000.0);
        let evidence = site.evidence_of(DNP3_ID, &[]);
        let view = evidence.wire.dnp3.unwrap();
        assert_eq!((view.requests, view.responses, view.unanswered), (5, if told { 5 } else { 0 }, 0), "snap length {snap}");
        assert_eq!(view.frames, if snap >= 64 { 5 + 15 } else { 5 });
        assert!(evidence.findings.is_empty(), "{:#?}", evidence.findings);
    }
}

/// The link frames of a message.
fn segments(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let crate::protocol::Step::Frame { length, .. } = dnp3::step(bytes) {
        let (frame, rest) = bytes.split_at(length);
        frames.push(frame);
        bytes = rest;
    }
    frames
}

#[test]
fn each_request_is_listed_with_what_came_of_it() {
    let settings = AnalysisSettings { max_pending_per_flow: 8, ..AnalysisSettings::default() };
    let mut site = Site::with(settings, vec![outbound(DNP3_ID, Protocol::Dnp3, OUTSTATION)]);
    let mut talk = Conversation::new(MASTER, OUTSTATION);
    site.all(0.0, talk.handshake());
    site.analysis.record_transactions();
    for round in 0..50_u8 {
        site.at(f64::from(round) * 5000.0, talk.send(false, &poll(round & 15)));
    }
    site.at(250_000.0, talk.send(false, &poll(3)));
    site.at(250_005.0, talk.send(true, &answer(3, Indications::default())));
    site.at(251_000.0, talk.send(false, &poll(4)));
    let listed: Vec<String> =
        site.analysis.take_transactions(true).iter().map(|transaction| format!("{:?}", transaction.outcome)).collect();
    let of = |wanted: &str| listed.iter().filter(|outcome| *outcome == wanted).count();
    assert_eq!((listed.len(), of("Unanswered"), of("Answered"), of("Unknown")), (52, 50, 1, 1));
    assert_eq!(site.evidence_of(DNP3_ID, &[]).wire.dnp3.unwrap().unanswered, 50);
}
