//! How connections end and begin anew, what only one side still has, and what was captured twice.

use super::*;
use crate::api::{Severity, TcpReport};

const QUESTION: &[u8] = &[0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1];
const ANSWER: &[u8] = &[0, 1, 0, 0, 0, 5, 1, 3, 2, 0, 9];

fn opened(site: &mut Site, ms: f64, client: &str) -> Conversation {
    let mut talk = Conversation::new(client, DEVICE);
    site.all(ms, talk.handshake());
    talk
}

/// One question and its answer each second.
fn talks(site: &mut Site, ms: f64, talk: &mut Conversation, rounds: u32) {
    for round in 0..rounds {
        let ms = ms + f64::from(round) * 1000.0;
        site.at(ms, talk.send(false, QUESTION));
        site.at(ms + 4.0, talk.send(true, ANSWER));
        site.at(ms + 5.0, talk.ack(false));
    }
}

fn tcp_of(site: &Site) -> TcpReport {
    site.analysis.report().servers[0].tcp.clone()
}

fn told(site: &Site) -> Vec<(String, String)> {
    site.analysis.report().findings.into_iter().map(|finding| (finding.code, finding.message)).collect()
}

/// A frame whose IPv4 packet has this number.
fn numbered(mut frame: Vec<u8>, number: u16) -> Vec<u8> {
    frame[18..20].copy_from_slice(&number.to_be_bytes());
    frame
}

#[test]
fn a_device_that_lost_its_power_leaves_a_half_open_connection_and_the_next_one_is_a_reconnect() {
    let mut site = Site::modbus();
    let mut talk = opened(&mut site, 0.0, CLIENT);
    talks(&mut site, 1000.0, &mut talk, 5);
    let frame = talk.send(false, QUESTION);
    [0.0, 200.0, 600.0, 1400.0, 3000.0].into_iter().for_each(|ms| _ = site.at(10_000.0 + ms, &frame));
    assert_eq!(tcp_of(&site).half_open, 0, "it may still answer");
    let mut next = opened(&mut site, 20_000.0, "10.0.0.1:40001");
    talks(&mut site, 21_000.0, &mut next, 3);
    let tcp = tcp_of(&site);
    assert_eq!((tcp.half_open, tcp.reconnects, tcp.resets_by_client + tcp.resets_by_server), (1, 1, 0));
    let latest = &tcp.latest_reconnects[0];
    assert_eq!((latest.client, latest.gap_ms), (ip_of("10.0.0.1"), 14_996.5), "since the device was heard last");
    let told = told(&site);
    let half_open = &told.iter().find(|(code, _)| code == "tcp.half_open").unwrap().1;
    assert_eq!(half_open, "1 half-open connection to 10.0.0.5:502: one side sent again and again and the other said nothing more");
}

#[test]
fn a_server_that_shows_itself_with_the_last_packet_is_reported() {
    let mut site = Site::new(Vec::new());
    let mut talk = Conversation::new("10.0.0.1:1000", "10.0.0.5:40000");
    site.at(0.0, talk.send(false, QUESTION));
    site.at(4.0, talk.send(true, ANSWER));
    let servers = site.analysis.report().servers;
    let device = servers.iter().find(|server| server.port == Some(40_000)).unwrap();
    let modbus = device.modbus.as_ref().unwrap();
    assert_eq!((modbus.requests, modbus.responses), (1, 1));
}

#[test]
fn an_answer_in_the_end_makes_a_long_silence_no_half_open_connection() {
    let mut site = Site::modbus();
    let mut talk = opened(&mut site, 0.0, CLIENT);
    talks(&mut site, 1000.0, &mut talk, 2);
    let frame = talk.send(false, QUESTION);
    [0.0, 200.0, 600.0, 1400.0, 3000.0].into_iter().for_each(|ms| _ = site.at(10_000.0 + ms, &frame));
    site.at(25_000.0, talk.send(true, ANSWER));
    site.wait_until(60_000.0);
    assert_eq!(tcp_of(&site).half_open, 0);
}

#[test]
fn a_reset_by_a_side_that_knows_nothing_of_the_connection_is_half_open_and_one_that_gives_up_is_not() {
    for (flags, half_open) in [(RST, 1), (RST | ACK, 0)] {
        let mut site = Site::modbus();
        let mut talk = opened(&mut site, 0.0, CLIENT);
        talks(&mut site, 1000.0, &mut talk, 2);
        let ack = talk.next[1];
        site.at(10_000.0, talk.send(false, QUESTION));
        site.at(10_000.5, tcp(talk.server, talk.client, ack, 0, flags, &[]));
        let tcp = tcp_of(&site);
        assert_eq!((tcp.half_open, tcp.resets_by_server), (half_open, 1));
    }
}

#[test]
fn half_open_connections_count_when_their_port_is_used_again_and_the_gap_is_from_the_last_packet() {
    let mut site = Site::modbus();
    for round in 0..5_u32 {
        let mut talk = Conversation::new(CLIENT, DEVICE);
        talk.next = [1_000 * (round + 1), 9];
        site.all(f64::from(round) * 10_000.0, [talk.syn(), talk.syn_ack()]);
    }
    site.wait_until(60_000.0);
    let tcp = tcp_of(&site);
    assert_eq!((tcp.half_open, tcp.reconnects), (5, 4));
    assert_eq!(tcp.reconnect_gap_ms.unwrap().min, 10_000.0);
}

#[test]
fn a_new_connection_before_the_old_one_is_reset_is_a_reconnect_and_one_beside_it_is_none() {
    let mut site = Site::modbus();
    let mut old = opened(&mut site, 0.0, CLIENT);
    talks(&mut site, 1000.0, &mut old, 3);
    let mut next = opened(&mut site, 40_000.0, "10.0.0.1:40001");
    assert_eq!(tcp_of(&site).reconnects, 0, "side by side");
    site.at(40_500.0, old.rst(false));
    talks(&mut site, 41_000.0, &mut next, 3);
    let tcp = tcp_of(&site);
    assert_eq!((tcp.reconnects, tcp.latest_reconnects[0].gap_ms), (1, 0.0));
}

#[test]
fn after_an_orderly_end_nothing_is_reset_and_of_several_resets_one_counts() {
    let mut site = Site::modbus();
    let mut talk = opened(&mut site, 0.0, CLIENT);
    site.all(100.0, [talk.fin(false), talk.fin(true), talk.rst(false)]);
    let tcp = tcp_of(&site);
    assert_eq!((tcp.resets_by_client, tcp.half_open), (0, 0));
    assert!(told(&site).is_empty(), "{:?}", told(&site));
    let talk = opened(&mut site, 5000.0, "10.0.0.1:40001");
    site.all(5100.0, [talk.rst(true), talk.rst(true), talk.rst(true)]);
    assert_eq!(tcp_of(&site).resets_by_server, 1);
    assert!(told(&site).contains(&("tcp.reset".into(), "1 connection to 10.0.0.5:502 was reset".into())));
}

#[test]
fn an_attempt_is_accepted_once_however_often_it_is_answered() {
    let mut site = Site::modbus();
    let mut talk = Conversation::new(CLIENT, DEVICE);
    let (syn, answer) = (talk.syn(), talk.syn_ack());
    [(0.0, &syn), (1.0, &answer), (1000.0, &answer)].into_iter().for_each(|(ms, frame)| _ = site.at(ms, frame));
    let tcp = tcp_of(&site);
    assert_eq!((tcp.attempts, tcp.accepted), (1, 1));
    assert_eq!((site.evidence().wire.syn_ack, site.evidence().session.accepted), (2, 1));
}

/// A conversation with both directions, and bare acknowledgements.
fn polls(client: &str, device: &str) -> Vec<Vec<u8>> {
    let mut talk = Conversation::new(client, device);
    let mut frames = talk.handshake().to_vec();
    for _ in 0..10 {
        frames.extend([talk.send(false, QUESTION), talk.ack(true), talk.send(true, ANSWER), talk.ack(false)]);
    }
    frames
}

/// Each of these packets was captured three times, one after another or two by two; all else is as it should be.
fn count_once(site: impl Fn() -> Site, frames: &[Vec<u8>]) {
    for (apart_ms, interleaved) in [(0.02, true), (0.8, false), (20.0, true)] {
        let (mut site, mut ms) = (site(), 0.0);
        for some in frames.chunks(if interleaved { 2 } else { 1 }) {
            for _ in 0..3 {
                some.iter().for_each(|frame| _ = site.at(ms, frame));
                ms += apart_ms;
            }
            ms += 100.0;
        }
        let (tcp, counters) = (tcp_of(&site), site.analysis.counters());
        assert_eq!((tcp.accepted, tcp.syn_retries, tcp.retransmissions, tcp.duplicate_acks), (1, 0, 0, 0), "{apart_ms}");
        assert_eq!(counters.copies.segments + counters.copies.acks, 2 * 43);
        assert_eq!(told(&site), [("capture.copies".to_owned(), "86 packets captured twice and counted once".to_owned())]);
    }
}

#[test]
fn copies_of_a_mirror_port_are_told_by_their_numbers_and_no_retransmissions() {
    let frames = (1..).zip(polls(CLIENT, DEVICE)).map(|(number, frame)| numbered(frame, number));
    count_once(Site::modbus, &frames.collect::<Vec<_>>());
}

/// A frame of IPv6 whose TCP header has this time stamp.
fn stamped(mut frame: Vec<u8>, time: u32) -> Vec<u8> {
    const IP: usize = 14;
    const TCP: usize = IP + 40;
    let length = u16::from_be_bytes([frame[IP + 4], frame[IP + 5]]) + 12;
    frame[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
    frame[TCP + 12] = 0x80;
    let option = [&[1, 1, 8, 10][..], &time.to_be_bytes(), &[0, 0, 0, 1]].concat();
    frame.splice(TCP + 20..TCP + 20, option);
    frame
}

const CLIENT_V6: &str = "[fd00::1]:40000";
const DEVICE_V6: &str = "[fd00::5]:502";

#[test]
fn copies_over_ipv6_are_told_by_their_time_stamps() {
    let frames = (1..).zip(polls(CLIENT_V6, DEVICE_V6)).map(|(number, frame)| stamped(frame, number * 100));
    count_once(|| Site::new(Vec::new()), &frames.collect::<Vec<_>>());
}

#[test]
fn what_is_sent_again_over_ipv6_has_a_later_time_stamp_or_was_asked_for() {
    let mut site = Site::new(Vec::new());
    let mut talk = Conversation::new(CLIENT_V6, DEVICE_V6);
    site.all(0.0, talk.handshake().map(|frame| stamped(frame, 1)));
    let later = talk.send(false, QUESTION);
    site.at(10.0, stamped(later.clone(), 10));
    site.at(30.0, stamped(later, 30));
    site.at(31.0, stamped(talk.ack(true), 31));
    assert_eq!((tcp_of(&site).retransmissions, site.analysis.counters().copies.segments), (1, 0));
    // Lost behind the place where the capture was taken, and sent again at once, in the same millisecond.
    let wanted = talk.next[0];
    let lost = talk.send(false, QUESTION);
    site.at(40.0, stamped(lost.clone(), 40));
    for number in 0..3 {
        site.at(40.1 + f64::from(number) * 0.1, stamped(talk.send(false, QUESTION), 40));
        let again = tcp(talk.server, talk.client, talk.next[1], wanted, ACK, &[]);
        site.at(40.15 + f64::from(number) * 0.1, stamped(again, 40));
    }
    site.at(40.6, stamped(lost, 40));
    let tcp = tcp_of(&site);
    assert_eq!((tcp.retransmissions, tcp.fast_retransmissions, site.analysis.counters().copies.segments), (2, 1, 0));
}

#[test]
fn what_a_host_sends_again_has_another_number_and_is_no_copy() {
    let mut site = Site::modbus();
    let mut talk = opened(&mut site, 0.0, CLIENT);
    let frame = talk.send(false, QUESTION);
    site.at(10.0, numbered(frame.clone(), 7));
    site.at(10.05, numbered(frame, 8));
    assert_eq!((tcp_of(&site).retransmissions, site.analysis.counters().copies.segments), (1, 0));
}

#[test]
fn datagrams_that_were_captured_twice_count_once() {
    use crate::protocol::dnp3::{LinkFunction, LinkHeader, frames};
    let mut site = Site::new(vec![outbound("d", Protocol::Dnp3, "10.0.0.6:20000")]);
    for round in 0..4_u8 {
        let header = LinkHeader::from_master(LinkFunction::UnconfirmedUserData, 10, 1);
        let request = frames(header, round, &[0xC0 | round, 1, 60, 1, 6]);
        let frame = udp(socket("10.0.0.1:20000"), socket("10.0.0.6:20000"), &request);
        for copy in 0..2 {
            site.at(f64::from(round) * 1000.0 + f64::from(copy) * 0.003, &frame);
        }
    }
    let counters = site.analysis.counters();
    assert_eq!((counters.copies.datagrams, counters.wire.dnp3.unwrap().requests), (4, 4));
    assert!(told(&site).iter().any(|(code, _)| code == "capture.copies"));
}

#[test]
fn bytes_that_never_came_were_lost_on_the_way_if_the_receiver_waits_for_them() {
    for receiver_has_them in [false, true] {
        let mut site = Site::modbus();
        let mut talk = opened(&mut site, 0.0, CLIENT);
        talks(&mut site, 1000.0, &mut talk, 2);
        let still_wanted = talk.next[0];
        talk.send(false, QUESTION);
        for round in 0..3 {
            site.at(10_000.0 + f64::from(round) * 100.0, talk.send(false, QUESTION));
            let ack = if receiver_has_them { talk.next[0] } else { still_wanted };
            site.at(10_001.0 + f64::from(round) * 100.0, tcp(talk.server, talk.client, talk.next[1], ack, ACK, &[]));
        }
        site.wait_until(40_000.0);
        site.analysis.finish();
        let (tcp, told) = (tcp_of(&site), told(&site));
        let has = |code: &str| told.iter().any(|(told, _)| told == code);
        assert_eq!((tcp.lost_segments, tcp.lost_on_the_way), if receiver_has_them { (1, 0) } else { (0, 1) });
        assert_eq!((has("capture.lost_segments"), has("tcp.segments_lost")), (receiver_has_them, !receiver_has_them));
    }
}

#[test]
fn a_window_that_stays_closed_has_been_so_until_now() {
    let mut site = Site::modbus();
    let mut talk = opened(&mut site, 0.0, CLIENT);
    talks(&mut site, 1000.0, &mut talk, 2);
    let mut closed = talk.ack(false);
    closed[14 + 20 + 14..][..2].fill(0);
    [10_000.0, 12_000.0, 30_000.0].into_iter().for_each(|ms| _ = site.at(ms, &closed));
    let tcp = tcp_of(&site);
    assert_eq!((tcp.zero_windows, tcp.zero_window_max_ms), (1, Some(20_000.0)));
    let told = told(&site);
    let (_, message) = told.iter().find(|(code, _)| code == "tcp.zero_window").unwrap();
    assert!(message.contains("closed its window 1 time, for 20.000 s at most, and one is still closed"), "{message}");
}

#[test]
fn what_is_sent_again_is_told_by_its_cause() {
    let mut site = Site::modbus();
    let mut talk = opened(&mut site, 0.0, CLIENT);
    let frame = talk.send(false, QUESTION);
    site.at(100.0, &frame);
    site.at(400.0, &frame);
    site.at(401.0, talk.ack(true));
    site.at(700.0, &frame);
    let tcp = tcp_of(&site);
    assert_eq!((tcp.retransmissions, tcp.fast_retransmissions), (2, 0));
    assert_eq!((tcp.timeout_retransmissions, tcp.spurious_retransmissions), (1, 1));
    let found = site.analysis.report().findings;
    let told = find(&found, "tcp.retransmissions");
    assert_eq!(told.severity, Severity::Info);
    assert!(told.message.ends_with("0 because the receiver asked for them, 1 after a time-out, 1 that it had already"));
}
