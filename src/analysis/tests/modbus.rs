//! Modbus transactions out of segments.

use super::*;
use crate::{api::Severity, protocol::modbus::Adu};

fn adu(transaction_id: u16, unit_id: u8, pdu: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Adu { transaction_id, unit_id, pdu }.encode(&mut bytes).unwrap();
    bytes
}

/// Read holding registers from 100, ten of them.
fn request(transaction_id: u16, unit_id: u8) -> Vec<u8> {
    adu(transaction_id, unit_id, &[3, 0, 100, 0, 10])
}

fn response(transaction_id: u16, unit_id: u8) -> Vec<u8> {
    adu(transaction_id, unit_id, &[&[3, 20][..], &[0; 20]].concat())
}

fn exception(transaction_id: u16, unit_id: u8, code: u8) -> Vec<u8> {
    adu(transaction_id, unit_id, &[0x83, code])
}

/// A site with an open connection.
fn open() -> (Site, Conversation) {
    let mut site = Site::modbus();
    let mut talk = Conversation::new(CLIENT, DEVICE);
    site.all(0.0, talk.handshake());
    (site, talk)
}

#[test]
fn requests_and_responses_are_matched_and_timed() {
    let (mut site, mut talk) = open();
    site.at(10.0, talk.send(false, &request(1, 255)));
    site.at(12.0, talk.send(true, &response(1, 255)));
    site.at(20.0, talk.send(false, &request(2, 255)));
    site.at(24.0, talk.send(true, &response(2, 255)));
    let evidence = site.evidence();
    let modbus = evidence.wire.modbus.unwrap();
    assert_eq!((modbus.requests, modbus.responses, modbus.exceptions, modbus.unanswered), (2, 2, 0, 0));
    let times = modbus.response_ms.unwrap();
    assert_eq!((times.min, times.mean, times.max), (2.0, 3.0, 4.0));
    assert!(evidence.findings.is_empty() && evidence.session.answered);
}

#[test]
fn parallel_connections_with_the_same_transaction_ids_are_kept_apart() {
    let mut site = Site::modbus();
    let mut talks: Vec<_> = (0..3).map(|port| Conversation::new(&format!("10.0.0.1:{}", 40000 + port), DEVICE)).collect();
    for talk in &mut talks {
        site.all(0.0, talk.handshake());
        site.at(10.0, talk.send(false, &request(1, 1)));
    }
    for talk in talks.iter_mut().rev() {
        site.at(11.0, talk.send(true, &response(1, 1)));
    }
    let modbus = site.evidence().wire.modbus.unwrap();
    assert_eq!((modbus.requests, modbus.responses, modbus.unanswered), (3, 3, 0));
}

#[test]
fn exceptions_name_the_query_and_collapse() {
    let (mut site, mut talk) = open();
    let mut first = 0;
    for round in 0..150_u16 {
        let ms = 10.0 + f64::from(round) * 2000.0;
        site.at(ms, talk.send(false, &adu(round, 255, &[4, 0, 0, 0, 1])));
        let number = site.at(ms + 1.0, talk.send(true, &adu(round, 255, &[0x84, 2])));
        first = if round == 0 { number } else { first };
    }
    let evidence = site.evidence();
    assert_eq!(codes(&evidence.findings), ["modbus.exceptions"]);
    let finding = &evidence.findings[0];
    assert_eq!((finding.count, finding.severity, finding.packets.len(), finding.packets[0]), (150, Severity::Warning, 5, first));
    assert_eq!(
        finding.message,
        "10.0.0.5:502 answered 150 of 150 requests with Modbus exception 2 (illegal data address): read input registers (function 4), unit 255, \
         offset 0, count 1 (150 times)"
    );
    assert!(finding.first_at.unwrap() < finding.last_at.unwrap());
}

#[test]
fn exceptions_of_two_codes_are_two_findings() {
    let (mut site, mut talk) = open();
    for (round, code) in [(1, 2), (2, 11), (3, 2)] {
        site.at(f64::from(round) * 10.0, talk.send(false, &request(round, 1)));
        site.at(f64::from(round) * 10.0 + 1.0, talk.send(true, &exception(round, 1, code)));
    }
    let findings = site.evidence().findings;
    assert_eq!(codes(&findings), ["modbus.exceptions", "modbus.exceptions"]);
    assert_eq!(findings.iter().map(|finding| finding.count).sum::<u64>(), 3);
}

#[test]
fn a_request_without_an_answer_is_open_until_the_time_out_and_then_unanswered() {
    let (mut site, mut talk) = open();
    site.at(10.0, talk.send(false, &request(1, 7)));
    site.at(11.0, talk.ack(true));
    site.wait_until(2000.0);
    assert_eq!(site.evidence().wire.modbus.unwrap().unanswered, 0);
    site.wait_until(2011.0);
    let evidence = site.evidence();
    assert_eq!(evidence.wire.modbus.as_ref().unwrap().unanswered, 1);
    assert_eq!((evidence.session.answered, evidence.session.unanswered), (false, 1));
    assert_eq!(
        find(&evidence.findings, "modbus.unanswered").message,
        "1 of 1 Modbus request to 10.0.0.5:502 had no answer within 2 s: read holding registers (function 3), unit 7, offset 100, count 10 (once); its TCP \
         acknowledged them, so the device has them and does not answer"
    );
}

#[test]
fn a_session_that_stops_being_answered_is_not_answered_any_more() {
    let (mut site, mut talk) = open();
    site.at(10.0, talk.send(false, &request(1, 1)));
    site.at(11.0, talk.send(true, &response(1, 1)));
    assert!(site.evidence().session.answered);
    site.at(1000.0, talk.send(false, &request(2, 1)));
    site.wait_until(3500.0);
    assert!(!site.evidence().session.answered);
    site.at(3600.0, talk.send(true, &response(2, 1)));
    assert!(site.evidence().session.answered, "late, but there");
}

#[test]
fn late_and_slow_answers_are_told_apart_from_missing_ones() {
    let (mut site, mut talk) = open();
    site.at(0.0, talk.send(false, &request(1, 1)));
    site.at(500.0, talk.send(false, &request(2, 1)));
    site.at(2700.0, talk.send(true, &response(1, 1)));
    site.at(2701.0, talk.send(true, &response(2, 1)));
    site.at(3000.0, talk.send(false, &request(3, 1)));
    site.at(4200.0, talk.send(true, &response(3, 1)));
    let evidence = site.evidence();
    let modbus = evidence.wire.modbus.unwrap();
    assert_eq!((modbus.responses, modbus.unanswered, modbus.response_ms.unwrap().max), (3, 0, 2700.0));
    assert_eq!(find(&evidence.findings, "modbus.late").count, 2);
    assert_eq!(find(&evidence.findings, "modbus.slow").count, 1);
}

#[test]
fn a_wrong_transaction_or_unit_id_is_told_and_leaves_the_request_unanswered() {
    let (mut site, mut talk) = open();
    site.at(0.0, talk.send(false, &request(0, 1)));
    site.at(1.0, talk.send(true, &response(1, 1)));
    site.wait_until(2500.0);
    let findings = site.evidence().findings;
    assert_eq!((find(&findings, "modbus.unanswered").count, find(&findings, "modbus.wrong_transaction_id").count), (1, 1));
    assert!(!codes(&findings).contains(&"modbus.unexpected"), "it is told once");
    site.at(3000.0, talk.send(false, &request(7, 1)));
    site.at(3001.0, talk.send(true, &response(7, 2)));
    assert_eq!(find(&site.evidence().findings, "modbus.wrong_unit_id").count, 1);
}

#[test]
fn a_second_answer_is_a_duplicate() {
    let (mut site, mut talk) = open();
    site.at(0.0, talk.send(false, &request(1, 1)));
    site.at(1.0, talk.send(true, &response(1, 1)));
    site.at(2.0, talk.send(true, &response(1, 1)));
    let findings = site.evidence().findings;
    assert_eq!(codes(&findings), ["modbus.duplicate"]);
}

#[test]
fn adus_split_anywhere_and_several_in_a_segment() {
    let requests = [request(1, 1), request(2, 1), request(3, 1)].concat();
    let responses = [response(1, 1), exception(2, 1, 3), response(3, 1)].concat();
    for cut in 0..=requests.len().max(responses.len()) {
        let (mut site, mut talk) = open();
        for (ms, from_server, bytes) in [(10.0, false, &requests), (20.0, true, &responses)] {
            let (left, right) = bytes.split_at(cut.min(bytes.len()));
            for (offset, part) in [(0.0, left), (1.0, right)] {
                if !part.is_empty() {
                    site.at(ms + offset, talk.send(from_server, part));
                }
            }
        }
        let modbus = site.evidence().wire.modbus.unwrap();
        assert_eq!((modbus.requests, modbus.responses, modbus.exceptions), (3, 3, 1), "cut at {cut}");
    }
}

#[test]
fn segments_out_of_order_and_sent_again_are_read_once() {
    let (mut site, mut talk) = open();
    let whole = [request(1, 1), request(2, 1)].concat();
    let (left, right) = whole.split_at(9);
    let (left, right) = (talk.send(false, left), talk.send(false, right));
    site.all(10.0, [right.clone(), left.clone()]);
    site.all(300.0, [left, right]);
    site.at(310.0, talk.send(true, &[response(1, 1), response(2, 1)].concat()));
    let evidence = site.evidence();
    let modbus = evidence.wire.modbus.unwrap();
    assert_eq!((modbus.requests, modbus.responses, evidence.wire.retransmissions), (2, 2, 2));
    assert_eq!(site.analysis.counters().out_of_order, 1);
}

#[test]
fn an_answer_of_which_a_part_was_lost_is_there_when_the_part_has_come_again() {
    let (mut site, mut talk) = open();
    site.at(10.0, talk.send(false, &request(1, 1)));
    let answer = response(1, 1);
    let (left, right) = answer.split_at(9);
    let (left, right) = (talk.send(true, left), talk.send(true, right));
    site.at(11.0, right);
    let last = site.at(1_510.0, left);
    let evidence = site.evidence();
    assert_eq!(evidence.wire.modbus.unwrap().response_ms.unwrap().max, 1_500.0);
    let slow = evidence.findings.iter().find(|finding| finding.code == "modbus.slow").expect("it was slow");
    assert_eq!(slow.packets, [last], "the packet that made it whole");
}

#[test]
fn an_answer_captured_before_its_request_is_matched() {
    let (mut site, mut talk) = open();
    let (asked, answered) = (talk.send(false, &request(1, 1)), talk.send(true, &response(1, 1)));
    site.at(10.0, answered);
    site.at(10.1, asked);
    let modbus = site.evidence().wire.modbus.unwrap();
    assert_eq!((modbus.requests, modbus.responses, modbus.unanswered), (1, 1, 0));
    assert_eq!(site.analysis.counters().modbus_unexpected, 0);
}

#[test]
fn a_capture_that_begins_in_the_middle_of_an_adu_finds_the_next_one() {
    let mut site = Site::modbus();
    let mut talk = Conversation::new(CLIENT, DEVICE);
    site.at(0.0, talk.send(true, &response(1, 1)[5..]));
    site.at(10.0, talk.send(false, &request(2, 1)));
    site.at(11.0, talk.send(true, &response(2, 1)));
    let evidence = site.evidence();
    let modbus = evidence.wire.modbus.unwrap();
    assert_eq!((modbus.requests, modbus.responses), (1, 1));
    assert!(evidence.findings.is_empty(), "{:#?}", evidence.findings);
}

#[test]
fn a_segment_that_the_capture_missed_costs_what_was_in_it_and_no_more() {
    let (mut site, mut talk) = open();
    site.at(10.0, talk.send(false, &request(1, 1)));
    let _missed = talk.send(true, &response(1, 1));
    for round in 2..20 {
        let ms = f64::from(round) * 100.0;
        site.at(ms, talk.send(false, &request(round, 1)));
        site.at(ms + 1.0, talk.send(true, &response(round, 1)));
    }
    site.wait_until(5000.0);
    let modbus = site.evidence().wire.modbus.unwrap();
    assert_eq!((modbus.requests, modbus.responses, modbus.unanswered), (19, 18, 1));
    assert_eq!(site.analysis.counters().gaps, 1);
}

#[test]
fn garbage_in_a_stream_is_told_and_passed_over() {
    let (mut site, mut talk) = open();
    site.at(10.0, talk.send(false, &[&[0xFF; 7][..], &request(1, 1)].concat()));
    site.at(11.0, talk.send(true, &response(1, 1)));
    let evidence = site.evidence();
    let modbus = evidence.wire.modbus.unwrap();
    assert_eq!((modbus.requests, modbus.responses), (1, 1));
    assert_eq!(codes(&evidence.findings), ["modbus.malformed"]);
}

#[test]
fn a_watch_decides_what_is_read_whatever_the_port() {
    let mut site =
        Site::new(vec![outbound(ID, Protocol::Modbus, "10.0.0.5:10006"), outbound("web", Protocol::Http, "10.0.0.6:502")]);
    let mut talk = Conversation::new(CLIENT, "10.0.0.5:10006");
    site.at(0.0, talk.send(false, &request(1, 1)));
    site.at(1.0, talk.send(true, &response(1, 1)));
    let mut web = Conversation::new(CLIENT, "10.0.0.6:502");
    site.at(2.0, web.send(false, b"GET / HTTP/1.1"));
    assert_eq!(site.evidence().wire.modbus.unwrap().responses, 1);
    assert_eq!(site.evidence_of("web", &[]).wire.modbus, None);
}

/// The outcomes of all transactions, each with what was asked (from `offset` on) and the answer's time.
fn outcomes(site: &mut Site) -> Vec<(String, Option<f64>)> {
    let transactions = site.analysis.take_transactions(true);
    transactions.iter().map(|done| (format!("{:?}", done.outcome), done.response_ms)).collect()
}

#[test]
fn a_transaction_id_that_is_always_0_gives_each_answer_to_its_own_request() {
    let (mut site, mut talk) = open();
    site.analysis.record_transactions();
    site.at(1000.0, talk.send(false, &adu(0, 1, &[3, 0, 10, 0, 1])));
    for round in 0..6 {
        let ms = 1500.0 + f64::from(round) * 500.0;
        site.at(ms, talk.send(false, &adu(0, 1, &[3, 0, 20, 0, 4])));
        site.at(ms + 4.0, talk.send(true, &adu(0, 1, &[3, 8, 0, 0, 0, 0, 0, 0, 0, 0])));
    }
    site.wait_until(30_000.0);
    let evidence = site.evidence();
    let times = evidence.wire.modbus.unwrap().response_ms.unwrap();
    assert_eq!((times.min, times.max), (4.0, 4.0));
    let finding = find(&evidence.findings, "modbus.unanswered");
    assert_eq!((finding.count, finding.packets.clone()), (1, vec![4]));
    assert!(finding.message.contains("offset 10, count 1 (once)"), "{}", finding.message);
    assert_eq!(codes(&evidence.findings), ["modbus.unanswered"]);
    let answered = ("Answered".to_owned(), Some(4.0));
    assert_eq!(outcomes(&mut site), [vec![answered; 6], vec![("Unanswered".to_owned(), None)]].concat());
}

#[test]
fn short_cycles_of_transaction_ids_and_retries_with_the_same_one_do_not_shift_the_answers() {
    let (mut site, mut talk) = open();
    for round in 0..100_u16 {
        let ms = 10.0 + f64::from(round) * 200.0;
        site.at(ms, talk.send(false, &request(round % 4, 1)));
        if round != 30 {
            site.at(ms + 4.0, talk.send(true, &response(round % 4, 1)));
        }
    }
    site.wait_until(30_000.0);
    let evidence = site.evidence();
    let modbus = evidence.wire.modbus.unwrap();
    assert_eq!((modbus.responses, modbus.unanswered, modbus.response_ms.unwrap().max), (99, 1, 4.0));
    let (mut site, mut talk) = open();
    site.at(0.0, talk.send(false, &request(7, 1)));
    site.at(500.0, talk.send(false, &request(7, 1)));
    site.at(504.0, talk.send(true, &response(7, 1)));
    site.wait_until(9000.0);
    let evidence = site.evidence();
    assert_eq!(evidence.wire.modbus.unwrap().response_ms.unwrap().max, 4.0);
    assert!(find(&evidence.findings, "modbus.unanswered").message.contains("count 10 (once)"));
}

#[test]
fn duplicates_are_known_after_other_answers() {
    let (mut site, mut talk) = open();
    site.at(0.0, talk.send(false, &(0..20).flat_map(|id| request(id, 1)).collect::<Vec<u8>>()));
    site.at(5.0, talk.send(true, &(0..20).flat_map(|id| response(id, 1)).collect::<Vec<u8>>()));
    site.at(6.0, talk.send(true, &response(0, 1)));
    assert_eq!(codes(&site.evidence().findings), ["modbus.duplicate"]);
}

#[test]
fn frames_of_a_wrong_length_and_answers_of_another_size_are_told() {
    for (answer, code, transaction) in [
        // The byte count says 20, and 6 bytes are there.
        (&[&[3, 20][..], &[0; 6]].concat(), "modbus.malformed", None),
        // Four registers of ten.
        (&[&[3, 8][..], &[0; 8]].concat(), "modbus.misfit", Some("of another size or place than was asked for")),
    ] {
        let (mut site, mut talk) = open();
        site.analysis.record_transactions();
        for round in 0..5_u16 {
            site.at(f64::from(round) * 100.0, talk.send(false, &request(round, 1)));
            site.at(f64::from(round) * 100.0 + 4.0, talk.send(true, &adu(round, 1, answer)));
        }
        let evidence = site.evidence();
        let modbus = evidence.wire.modbus.unwrap();
        assert_eq!((modbus.requests, modbus.responses), (5, 5));
        assert_eq!(codes(&evidence.findings), [code]);
        assert_eq!((evidence.findings[0].count, evidence.findings[0].packets.len()), (5, 5));
        let details: Vec<_> = site.analysis.take_transactions(true).into_iter().map(|done| done.detail).collect();
        assert_eq!(details, vec![transaction.map(str::to_owned); 5]);
    }
}

#[test]
fn writes_to_unit_0_need_no_answer_unless_this_device_gives_one() {
    let write = |id: u16| adu(id, 0, &[6, 0, 1, 0, 9]);
    let (mut site, mut talk) = open();
    site.analysis.record_transactions();
    for round in 0..5_u16 {
        let ms = f64::from(round) * 1000.0;
        site.at(ms, talk.send(false, &write(round * 2)));
        site.at(ms + 500.0, talk.send(false, &request(round * 2 + 1, 1)));
        site.at(ms + 504.0, talk.send(true, &response(round * 2 + 1, 1)));
    }
    site.wait_until(20_000.0);
    let evidence = site.evidence();
    assert!(evidence.findings.is_empty() && evidence.session.answered, "{:#?}", evidence.findings);
    let modbus = evidence.wire.modbus.unwrap();
    assert_eq!((modbus.requests, modbus.responses, modbus.unanswered), (10, 5, 0));
    let unknown = outcomes(&mut site).into_iter().filter(|(outcome, _)| outcome == "Unknown").count();
    assert_eq!(unknown, 5);
    let (mut site, mut talk) = open();
    site.at(0.0, talk.send(false, &write(1)));
    site.at(4.0, talk.send(true, &write(1)));
    site.at(1000.0, talk.send(false, &write(2)));
    site.at(2000.0, talk.send(false, &adu(3, 0, &[3, 0, 0, 0, 1])));
    site.wait_until(20_000.0);
    let modbus = site.evidence().wire.modbus.unwrap();
    assert_eq!((modbus.responses, modbus.unanswered), (1, 2), "it takes unit 0 for its own; and a read is for one unit");
}

#[test]
fn the_answer_to_a_request_before_the_capture_began_is_no_finding() {
    let mut site = Site::modbus();
    let mut talk = Conversation::new(CLIENT, DEVICE);
    site.at(0.0, talk.send(true, &response(77, 1)));
    site.at(100.0, talk.send(false, &request(78, 1)));
    // The one before had not been answered when the next was asked.
    site.at(101.0, talk.send(true, &[response(77, 1), response(78, 1)].concat()));
    let evidence = site.evidence();
    assert!(evidence.findings.is_empty(), "{:#?}", evidence.findings);
    assert_eq!(site.analysis.counters().modbus_unexpected, 2);
    site.at(200.0, talk.send(true, &response(99, 1)));
    assert_eq!(codes(&site.evidence().findings), ["modbus.unexpected"]);
}

#[test]
fn answers_that_the_snap_length_cut_are_matched_by_their_beginning() {
    // Ethernet, IP and TCP take 54 bytes; the answers have 209.
    for (snap, told) in [(62, true), (96, true), (61, false), (54, false)] {
        let (mut site, mut talk) = open();
        for round in 0..10_u16 {
            let ms = 1000.0 + f64::from(round) * 1000.0;
            site.at(ms, talk.send(false, &adu(round, 1, &[3, 0, 0, 0, 100])));
            let whole = talk.send(true, &adu(round, 1, &[&[3, 200][..], &[0; 200]].concat()));
            site.cut_at(ms + 4.0, &whole, snap);
        }
        site.wait_until(30_000.0);
        let evidence = site.evidence();
        let modbus = evidence.wire.modbus.unwrap();
        assert_eq!(
            (modbus.requests, modbus.responses, modbus.unanswered),
            (10, if told { 10 } else { 0 }, 0),
            "snap length {snap}"
        );
        assert!(evidence.findings.is_empty(), "{:#?}", evidence.findings);
        if told {
            assert_eq!(modbus.response_ms.unwrap().max, 4.0);
        }
    }
}

#[test]
fn more_requests_than_are_remembered_are_all_listed() {
    let settings = AnalysisSettings { max_pending_per_flow: 64, ..AnalysisSettings::default() };
    let mut site = Site::with(settings, vec![outbound(ID, Protocol::Modbus, DEVICE)]);
    let mut talk = Conversation::new(CLIENT, DEVICE);
    site.all(0.0, talk.handshake());
    site.analysis.record_transactions();
    for round in 0..200_u16 {
        site.at(f64::from(round) * 20.0, talk.send(false, &request(round, 1)));
    }
    site.wait_until(60_000.0);
    let outcomes = outcomes(&mut site);
    let of = |wanted: &str| outcomes.iter().filter(|(outcome, _)| outcome == wanted).count();
    assert_eq!((outcomes.len(), of("Unanswered"), of("Unknown")), (200, 64, 136));
    // With the room that there is by default, each is followed to its end.
    let (mut site, mut talk) = open();
    for round in 0..200_u16 {
        site.at(f64::from(round) * 20.0, talk.send(false, &request(round, 1)));
    }
    site.wait_until(60_000.0);
    assert_eq!(site.evidence().wire.modbus.unwrap().unanswered, 200);
}
