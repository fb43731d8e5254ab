//! Handshakes, ends, retransmissions; own connections and those of others.

use super::*;
use crate::api::Severity;

#[test]
fn an_own_connection_that_opens_and_closes_gracefully() {
    let mut site = Site::modbus();
    let mut own = Conversation::new(CLIENT, DEVICE);
    site.all(0.0, own.handshake());
    site.all(5.0, [own.fin(false), own.ack(true), own.fin(true), own.ack(false)]);
    let evidence = site.evidence_of(ID, &[CLIENT]);
    let attempt = &evidence.attempt;
    assert_eq!((attempt.syn, attempt.syn_retries, attempt.syn_ack, attempt.rst), (1, 0, 1, 0));
    assert_eq!((attempt.fin_sent, attempt.fin_received, attempt.reset_after_open), (1, 1, 0));
    assert_eq!(attempt.handshake_ms, Some(0.5));
    assert_eq!(attempt.packets, [1, 2, 4, 6]);
    assert_eq!(evidence.session, Default::default(), "nobody else was there");
    assert_eq!((evidence.wire.packets, evidence.wire.syn, evidence.wire.fin), (7, 1, 2));
    assert!(evidence.findings.is_empty(), "{:#?}", evidence.findings);
}

#[test]
fn a_session_of_others_is_not_the_tests_own() {
    let mut site = Site::modbus();
    let mut theirs = Conversation::new("10.0.0.1:39999", DEVICE);
    site.all(0.0, theirs.handshake());
    site.at(3.0, theirs.send(false, b"hello"));
    site.at(4.0, theirs.send(true, b"world"));
    let evidence = site.evidence_of(ID, &[CLIENT]);
    assert_eq!(evidence.attempt, Default::default());
    assert_eq!((evidence.session.connections, evidence.session.attempts, evidence.session.accepted), (1, 1, 1));
    assert_eq!((evidence.session.client_payload_segments, evidence.session.server_payload_segments), (1, 1));
    assert!(evidence.session.answered && evidence.session.both_directions);
    // The same port number on another local address is somebody else, too.
    assert_eq!(site.evidence_of(ID, &["10.1.0.1:39999"]).attempt, Default::default());
    assert_eq!(site.evidence_of(ID, &["10.0.0.1:39999"]).attempt.syn, 1);
}

#[test]
fn a_session_entered_in_the_middle_counts_and_an_idle_one_shows_by_its_acknowledgements() {
    let mut site = Site::modbus();
    let theirs = Conversation::new("10.0.0.1:39999", DEVICE);
    site.at(0.0, theirs.ack(false));
    assert!(!site.evidence().session.both_directions);
    site.at(1.0, theirs.ack(true));
    let session = site.evidence().session;
    assert_eq!((session.connections, session.attempts), (1, 0));
    assert!(session.both_directions && !session.answered);
}

#[test]
fn syns_without_an_answer_and_their_retries() {
    let mut site = Site::modbus();
    let mut own = Conversation::new(CLIENT, DEVICE);
    let syn = own.syn();
    for ms in [0.0, 1020.0, 3040.0] {
        site.at(ms, &syn);
    }
    let evidence = site.evidence_of(ID, &[CLIENT]);
    assert_eq!((evidence.attempt.syn, evidence.attempt.syn_retries, evidence.attempt.syn_ack), (1, 2, 0));
    let finding = find(&evidence.findings, "tcp.syn_unanswered");
    assert_eq!((finding.severity, finding.count, &finding.packets[..]), (Severity::Alarm, 1, &[1][..]));
    assert_eq!(finding.message, "1 connection attempt to 10.0.0.5:502 was not answered (2 retries)");
    assert_eq!(finding.endpoint_id.as_deref(), Some(ID));
}

#[test]
fn a_syn_at_the_end_of_the_capture_is_open_not_unanswered() {
    let mut site = Site::modbus();
    site.at(0.0, Conversation::new(CLIENT, DEVICE).syn());
    site.wait_until(900.0);
    assert!(site.evidence().findings.is_empty());
    site.wait_until(1100.0);
    assert_eq!(codes(&site.evidence().findings), ["tcp.syn_unanswered"]);
}

#[test]
fn a_third_connection_refused_by_silence() {
    let mut site = Site::modbus();
    for port in [33094, 33096] {
        let mut accepted = Conversation::new(&format!("10.0.0.1:{port}"), DEVICE);
        site.all(0.0, accepted.handshake());
    }
    site.at(0.1, Conversation::new("10.0.0.1:33098", DEVICE).syn());
    site.wait_until(6000.0);
    let evidence = site.evidence();
    let finding = find(&evidence.findings, "tcp.syn_unanswered");
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(finding.message, "1 connection attempt to 10.0.0.5:502 was not answered; 2 others were accepted");
    assert_eq!(evidence.session.unanswered_attempts, 1);
}

#[test]
fn a_reset_in_answer_to_a_syn_is_a_refusal() {
    let mut site = Site::modbus();
    let mut own = Conversation::new(CLIENT, DEVICE);
    site.all(0.0, [own.syn(), own.rst(true)]);
    let evidence = site.evidence_of(ID, &[CLIENT]);
    assert_eq!((evidence.attempt.rst, evidence.attempt.reset_after_open, evidence.wire.rst), (1, 0, 1));
    assert_eq!(codes(&evidence.findings), ["tcp.refused"]);
    assert_eq!(evidence.findings[0].message, "1 connection attempt to 10.0.0.5:502 was refused: nothing listens there");
}

#[test]
fn a_reset_of_an_open_connection_is_none() {
    let mut site = Site::modbus();
    let mut own = Conversation::new(CLIENT, DEVICE);
    site.all(0.0, own.handshake());
    // For each segment that comes after, a device resets again; it is one connection all the same.
    site.all(5.0, [own.rst(true), own.ack(false), own.rst(true)]);
    let evidence = site.evidence_of(ID, &[CLIENT]);
    assert_eq!((evidence.attempt.rst, evidence.attempt.reset_after_open, evidence.wire.rst), (0, 1, 2));
    assert_eq!(find(&evidence.findings, "tcp.reset").count, 1);
}

#[test]
fn a_port_used_again_is_another_connection() {
    let mut site = Site::modbus();
    for round in 0..3 {
        let mut own = Conversation::new(CLIENT, DEVICE);
        own.next = [round * 77_000, 5];
        site.all(f64::from(round) * 100.0, own.handshake());
        site.all(f64::from(round) * 100.0 + 50.0, [own.fin(false), own.fin(true), own.ack(false)]);
    }
    let evidence = site.evidence_of(ID, &[CLIENT]);
    assert_eq!((evidence.attempt.syn, evidence.attempt.syn_retries, evidence.attempt.syn_ack), (3, 0, 3));
    assert_eq!((evidence.attempt.fin_sent, evidence.attempt.fin_received), (3, 3));
    assert_eq!(site.analysis.counters().flows, 1);
}

#[test]
fn payload_sent_again_is_a_retransmission_and_nothing_else_is() {
    let mut site = Site::modbus();
    let mut talk = Conversation::new(CLIENT, DEVICE);
    talk.next = [u32::MAX - 12, 900_000];
    site.all(0.0, talk.handshake());
    let first = talk.send(false, b"0123456789");
    let second = talk.send(false, b"abcdefghij");
    site.all(10.0, [first.clone(), second.clone(), talk.ack(true), talk.ack(true)]);
    assert_eq!(site.evidence().wire.retransmissions, 0, "over the wrap of sequence numbers; pure acknowledgements");
    let seq = talk.next[0];
    site.at(200.0, tcp(talk.client, talk.server, seq.wrapping_sub(1), talk.next[1], ACK, &[]));
    site.at(201.0, tcp(talk.client, talk.server, seq.wrapping_sub(1), talk.next[1], ACK, &[0]));
    assert_eq!((site.evidence().wire.retransmissions, site.analysis.counters().keep_alives), (0, 2));
    let again = site.at(300.0, &second);
    site.at(300.003, &second);
    site.at(600.0, &first);
    let evidence = site.evidence();
    assert_eq!((evidence.wire.retransmissions, site.analysis.counters().copies.segments), (2, 1), "a copy is none");
    let finding = find(&evidence.findings, "tcp.retransmissions");
    assert_eq!((finding.packets.clone(), finding.severity), (vec![again, again + 2], Severity::Info));
    assert_eq!(
        finding.message,
        "2 sent again to or from 10.0.0.5:502, of 2 segments with payload (100.0 %); 0 because the receiver asked for them, 0 after a time-out, 2 that it had already"
    );
}

#[test]
fn both_hosts_are_client_and_server_at_once() {
    let inbound =
        Watch { direction: Direction::Inbound, address: None, gateway: None, ..outbound("in", Protocol::Modbus, "0.0.0.0:502") };
    let mut site = Site::new(vec![outbound(ID, Protocol::Modbus, DEVICE), inbound]);
    let mut there = Conversation::new("10.0.0.1:40000", DEVICE);
    let mut back = Conversation::new("10.0.0.5:50000", "10.0.0.1:502");
    site.all(0.0, there.handshake());
    site.all(1.0, back.handshake());
    site.at(3.0, back.send(false, b"x"));
    let (out, into) = (site.evidence(), site.evidence_of("in", &[]));
    assert_eq!((out.wire.packets, out.wire.syn, into.wire.packets, into.wire.syn), (3, 1, 4, 1));
    assert_eq!((into.session.connections, into.session.client_payload_segments), (1, 1));
}

#[test]
fn a_listener_on_all_addresses_is_only_this_hosts() {
    let inbound = Watch {
        direction: Direction::Inbound,
        address: Some(ip_of("0.0.0.0")),
        gateway: None,
        ..outbound("in", Protocol::Modbus, "0.0.0.0:502")
    };
    let mut site = Site::new(vec![inbound]);
    site.all(0.0, Conversation::new("10.0.0.5:50000", "10.0.0.1:502").handshake());
    site.all(0.0, Conversation::new("10.0.0.5:50000", "10.1.0.1:502").handshake());
    site.all(1.0, Conversation::new("10.0.0.1:50000", "10.0.0.7:502").handshake());
    assert_eq!(site.evidence_of("in", &[]).wire.syn, 2, "two local addresses, and no device");
    assert_eq!(site.analysis.counters().wire.syn, 3);
}

#[test]
fn one_device_with_two_ports_is_two_endpoints() {
    let mut site =
        Site::new(vec![outbound("a", Protocol::Modbus, "10.0.0.5:502"), outbound("b", Protocol::Modbus, "10.0.0.5:1502")]);
    site.all(0.0, Conversation::new(CLIENT, "10.0.0.5:502").handshake());
    let mut refused = Conversation::new(CLIENT, "10.0.0.5:1502");
    site.all(1.0, [refused.syn(), refused.rst(true)]);
    assert_eq!((site.evidence_of("a", &[]).wire.syn_ack, site.evidence_of("a", &[]).wire.rst), (1, 0));
    assert_eq!((site.evidence_of("b", &[]).wire.syn_ack, site.evidence_of("b", &[]).wire.rst), (0, 1));
    assert!(site.analysis.evidence("c", &[]).is_none());
}

#[test]
fn an_unwatched_server_is_told_by_its_address() {
    let mut site = Site::new(Vec::new());
    let mut refused = Conversation::new("10.0.0.1:40000", "10.0.0.9:8080");
    site.all(0.0, [refused.syn(), refused.rst(true)]);
    let findings = site.analysis.findings();
    assert_eq!(codes(&findings), ["tcp.refused"]);
    assert!(findings[0].endpoint_id.is_none() && findings[0].message.contains("10.0.0.9:8080"));
}

#[test]
fn an_answer_from_another_address_is_told_at_the_one_that_was_asked() {
    let mut site = Site::modbus();
    let mut talk = Conversation::new(CLIENT, DEVICE);
    site.at(0.0, talk.syn());
    let mut other = Conversation { server: socket("10.0.0.6:502"), ..talk.clone() };
    site.at(1.0, other.syn_ack());
    site.wait_until(5000.0);
    let evidence = site.evidence();
    let told = find(&evidence.findings, "tcp.answer_from_elsewhere");
    assert_eq!(told.message, "10.0.0.5:502 was asked to connect, and 10.0.0.6:502 answered in its place");
    assert_eq!(told.endpoint_id.as_deref(), Some(ID));
    assert!(codes(&site.analysis.report().findings).contains(&"tcp.answer_from_elsewhere"));
}

#[test]
fn what_fills_a_gap_long_after_was_lost_and_sent_again_and_what_does_soon_was_overtaken() {
    for (gap_ms, acknowledged, retransmissions, out_of_order) in [(2.0, false, 0, 1), (200.0, false, 1, 0), (200.0, true, 0, 1)] {
        let mut site = Site::modbus();
        let mut talk = Conversation::new(CLIENT, DEVICE);
        site.all(0.0, talk.handshake());
        site.at(10.0, talk.send(false, b"question"));
        let (left, right) = (talk.send(true, b"ans"), talk.send(true, b"wer"));
        // The acknowledgement before either part came, or after both: then the capture has them in the wrong order.
        site.at(11.0, right);
        if acknowledged {
            site.at(11.5, talk.ack(false));
        }
        site.at(11.0 + gap_ms, left);
        let counters = site.analysis.counters();
        assert_eq!(
            (counters.wire.retransmissions, counters.out_of_order),
            (retransmissions, out_of_order),
            "{gap_ms} {acknowledged}"
        );
    }
}
