//! DNP3 messages out of segments.

use super::*;
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
    assert_eq!((view.crc_errors, view.requests), (2, 1));
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
fn an_outstation_that_speaks_at_another_address_than_its_config_says_is_told() {
    use crate::analysis::Expectation;
    let expected = Expectation { endpoint_id: DNP3_ID.into(), unit_ids: Vec::new(), links: vec![(1, 10)] };
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
