//! The rules, case by case.

use super::*;
use crate::{
    analysis::{AttemptView, SessionView},
    api::{ArpView, Dnp3View, Protocol, ResponseTimes, RoundTrip, WireView},
    connectivity::plan::tests::endpoint,
};
use ConnectState::{Error, NotRequested, Open, Refused, Reset, Skipped, TimedOut, Unreachable};
use Direction::{Inbound, Outbound, Undetermined};
use PingState::{Answered, NoAnswer};
use Verdict::{Degraded, Failed, Ok, Unknown};

/// One case, in the order in which an engineer would tell it.
struct Case {
    direction: Direction,
    ping: PingState,
    connect: ConnectState,
    attempts: u32,
    kernel: Option<KernelView>,
    evidence: Option<Evidence>,
}

fn probed(ping: PingState, connect: ConnectState) -> Case {
    Case { direction: Outbound, ping, connect, attempts: 1, kernel: Some(KernelView::default()), evidence: None }
}

impl Case {
    fn direction(self, direction: Direction) -> Self {
        Self { direction, ..self }
    }

    fn established(self, established: u32) -> Self {
        Self { kernel: Some(KernelView { established, ..self.kernel.unwrap_or_default() }), ..self }
    }

    fn listening(self) -> Self {
        Self { kernel: Some(KernelView { listening: true, ..self.kernel.unwrap_or_default() }), ..self }
    }

    fn sockets_unread(self) -> Self {
        Self { kernel: None, ..self }
    }

    fn wire(mut self, see: impl FnOnce(&mut Evidence)) -> Self {
        see(self.evidence.get_or_insert_with(Evidence::default));
        self
    }

    fn syn(self, syn: u64, syn_ack: u64) -> Self {
        self.wire(|seen| seen.attempt = AttemptView { syn, syn_ack, ..seen.attempt.clone() })
    }

    fn arp(self, asked: u64, answered: u64) -> Self {
        let address = "10.0.0.2".parse().unwrap();
        self.wire(|seen| seen.arp = Some(ArpView { address, asked, answered, macs: Vec::new() }))
    }

    fn icmp(self, from: &str, code: u8, meaning: &str) -> Self {
        let message =
            IcmpUnreachable { from: from.parse().unwrap(), icmp_type: 3, icmp_code: code, meaning: meaning.to_owned(), count: 1 };
        self.wire(|seen| {
            seen.attempt.icmp.push(message.clone());
            seen.wire.icmp.push(message);
        })
    }

    fn session(self, asked: u64, answered: u64) -> Self {
        self.wire(|seen| {
            seen.session = SessionView {
                connections: 1,
                client_payload_segments: asked,
                server_payload_segments: answered,
                answered: answered > 0,
                ..SessionView::default()
            }
        })
    }

    fn modbus(self, requests: u64, responses: u64, exceptions: u64, unanswered: u64, mean_ms: f64) -> Self {
        let response_ms = Some(ResponseTimes { min: mean_ms, mean: mean_ms, max: mean_ms, ..ResponseTimes::default() });
        let modbus = ModbusView { requests, responses, exceptions, unanswered, response_ms };
        self.session(requests, responses).wire(|seen| {
            seen.wire = WireView { packets: 4 * requests, modbus: Some(modbus), ..seen.wire.clone() };
        })
    }

    fn judged(&self) -> Judgement {
        let mut endpoint = endpoint(Protocol::Modbus, self.direction, "10.0.0.2", 502);
        if self.evidence.as_ref().and_then(|e| e.arp.as_ref()).is_some_and(|arp| arp.macs == ["gateway"]) {
            endpoint.gateway = Some("10.0.0.2".parse().unwrap());
        }
        let rtt_ms = (self.ping == Answered).then_some(RoundTrip { min: 1.0, mean: 1.0, max: 1.0 });
        let ping = PingReport { state: self.ping, sent: 3, received: 3 * u32::from(self.ping == Answered), rtt_ms, detail: None };
        let mut connect = ConnectReport::not_made(self.connect, Some("said so".to_owned()));
        connect.attempts = self.attempts;
        connect.time_ms = Some(1.25);
        judge(&Facts {
            endpoint: &endpoint,
            ping: &ping,
            connect: &connect,
            kernel: self.kernel.as_ref(),
            evidence: self.evidence.as_ref(),
            silent_neighbour: None,
            timeout_ms: 3500,
            slow_connect_ms: 500,
            degraded_from: DegradedFrom::default(),
        })
    }
}

/// The rules, case by case: what was probed, what the sockets and the wire showed, the verdict, and a word of the reason.
#[test]
fn the_table_of_verdicts() {
    let retried = |case: Case| case.wire(|seen| seen.attempt.syn_retries = 1);
    let resent = |case: Case, packets| case.wire(|seen| (seen.wire.retransmissions, seen.wire.packets) = (5, packets));
    let dnp3 = |case: Case, unanswered, crc_errors| {
        let view = Dnp3View { frames: 20, requests: 10, responses: 10 - unanswered, unanswered, crc_errors, ..Dnp3View::default() };
        case.session(10, 10 - unanswered).wire(|seen| seen.wire.dnp3 = Some(view))
    };
    let trying =
        |case: Case, refused| case.wire(|seen| seen.session = SessionView { attempts: 3, refused, ..SessionView::default() });
    let gateway = |case: Case| case.arp(3, 0).wire(|seen| seen.arp.as_mut().unwrap().macs = vec!["gateway".to_owned()]);
    let slow_answers = |responses, slow| {
        let found = finding("modbus.slow", Severity::Warning, slow, "answers took 1 s or more");
        probed(Answered, Open).modbus(responses, responses, 0, 0, 4.0).wire(|seen| seen.findings.push(found))
    };
    let slow = |case: Case| case.wire(|seen| seen.attempt.handshake_ms = Some(900.0));
    let cases: Vec<(&str, Case, Verdict, &str)> = vec![
        // A port that opens is ok, however ping fares.
        ("opens", probed(Answered, Open), Ok, "opens in 1.2 ms"),
        ("opens, no ping", probed(NoAnswer, Open), Ok, "ping is not answered"),
        ("opens, ping error", probed(PingState::Error, Open), Ok, "opens"),
        ("opens, wire agrees", probed(Answered, Open).syn(1, 1), Ok, "opens"),
        ("opens, session answered", probed(Answered, Open).syn(1, 1).modbus(10, 10, 0, 0, 4.0).established(1), Ok, "opens"),
        ("opens, sockets unread", probed(Answered, Open).sockets_unread(), Ok, "opens"),
        // Slow, retried or exception-ridden is degraded.
        ("opens after a SYN retry", retried(probed(Answered, Open).syn(1, 1)), Degraded, "1 repeated connection request"),
        ("opens at attempt 2", Case { attempts: 2, ..probed(Answered, Open) }, Degraded, "attempt 2"),
        ("opens slowly", slow(probed(Answered, Open).syn(1, 1)), Degraded, "slow"),
        ("many exceptions", probed(Answered, Open).modbus(10, 10, 5, 0, 4.0), Degraded, "5 of 10 Modbus responses are exceptions"),
        ("few exceptions", probed(Answered, Open).modbus(100, 100, 5, 0, 4.0), Ok, "opens"),
        (
            "unanswered requests",
            probed(Answered, Open).modbus(10, 6, 0, 4, 4.0),
            Degraded,
            "4 of 10 Modbus requests got no response",
        ),
        ("slow responses", slow_answers(20, 1), Degraded, "answers took 1 s or more"),
        ("few slow responses of many", slow_answers(21, 1), Ok, "opens"),
        ("retransmissions", resent(probed(Answered, Open).syn(1, 1), 100), Degraded, "5 segments had to be sent again"),
        ("few retransmissions of many", resent(probed(Answered, Open).syn(1, 1), 1000), Ok, "opens"),
        ("sessions reset", probed(Answered, Open).wire(|seen| seen.session.resets = 2), Degraded, "2 connections"),
        ("DNP3 unanswered", dnp3(probed(Answered, Skipped).established(1), 3, 0), Degraded, "3 of 10 DNP3 requests"),
        ("DNP3 check sums", dnp3(probed(Answered, Skipped).established(1), 0, 2), Degraded, "2 DNP3 frames"),
        // Refused, timed out and unreachable are failed, and the wire says why.
        ("refused", probed(Answered, Refused), Failed, "RST"),
        ("refused, no ping", probed(NoAnswer, Refused), Failed, "the host is up, but nothing listens"),
        ("reset at once", probed(Answered, Reset), Failed, "reset at once"),
        (
            "no ARP",
            probed(NoAnswer, Unreachable).arp(3, 0),
            Failed,
            "no ARP answer (3 requests): the host is off, or in another subnet",
        ),
        ("no ARP, timed out", probed(NoAnswer, TimedOut).syn(1, 0).arp(3, 0), Failed, "no ARP answer"),
        ("gateway has no ARP", gateway(probed(NoAnswer, Unreachable)), Failed, "gateway 10.0.0.2"),
        (
            "ARP answered, SYN lost",
            probed(NoAnswer, TimedOut).syn(1, 0).arp(1, 1),
            Failed,
            "filtered on the way, or the host is down",
        ),
        ("SYN unanswered, ping answered", probed(Answered, TimedOut).syn(1, 0), Failed, "takes no more connections"),
        ("too late", probed(Answered, TimedOut).syn(1, 1), Failed, "too late"),
        (
            "prohibited",
            probed(NoAnswer, Unreachable).icmp("10.0.0.254", 13, "prohibited"),
            Failed,
            "router 10.0.0.254 says: prohibited (ICMP type 3 code 13)",
        ),
        ("ICMP of the host", probed(Answered, Unreachable).icmp("10.0.0.2", 3, "port unreachable"), Failed, "the host itself says"),
        ("unreachable, nothing on the wire", probed(NoAnswer, Unreachable).syn(0, 0), Failed, "no way to it: said so"),
        ("timed out, no capture", probed(NoAnswer, TimedOut), Failed, "within 3500 ms; ping is not answered; without a capture"),
        ("unreachable, no capture", probed(NoAnswer, Unreachable), Failed, "without a capture the cause cannot be told"),
        ("local error", probed(Answered, Error), Unknown, "said so"),
        // Traffic that is answered is ok, also when the device takes no further connection.
        ("full, but serves", probed(Answered, TimedOut).syn(1, 0).modbus(9, 9, 0, 0, 4.0).established(1), Ok, "take only a few"),
        ("refuses a second", probed(Answered, Refused).modbus(9, 9, 0, 0, 4.0).established(1), Ok, "live session is answered"),
        ("dead session", probed(NoAnswer, TimedOut).syn(1, 0).session(3, 0).established(1), Failed, "still holds as established"),
        ("session, no capture", probed(NoAnswer, TimedOut).established(1), Degraded, "without a capture nobody can tell"),
        // A skipped connect with a live established session is ok; with nothing to see, unknown.
        ("skipped, session", probed(Answered, Skipped).established(1), Ok, "1 session established"),
        ("skipped, session, no ping", probed(NoAnswer, Skipped).established(2), Ok, "2 sessions established"),
        (
            "skipped, answered traffic",
            dnp3(probed(Answered, Skipped), 0, 0),
            Ok,
            "live traffic is answered (10 of 10 DNP3 requests)",
        ),
        ("skipped, unanswered traffic", probed(Answered, Skipped).established(1).session(4, 0), Degraded, "none of 4 segments"),
        ("skipped, nothing", probed(Answered, Skipped), Unknown, "no session to see; the host answers ping"),
        ("skipped, nothing, no ping", probed(NoAnswer, Skipped), Unknown, "ping is not answered"),
        ("skipped, no ARP", probed(NoAnswer, Skipped).arp(3, 0), Failed, "no ARP answer"),
        ("skipped, master gets no answer", trying(probed(Answered, Skipped), 0), Failed, "tries to connect and fails: unanswered"),
        ("skipped, master is refused", trying(probed(Answered, Skipped), 3), Failed, "refused (RST)"),
        ("skipped, sockets unread", probed(Answered, Skipped).sockets_unread(), Unknown, "could not be read"),
        ("only pinged", probed(Answered, NotRequested), Ok, "answers ping"),
        ("only pinged, no answer", probed(NoAnswer, NotRequested), Unknown, "ping is not answered"),
        ("role undetermined", probed(PingState::NotRequested, Skipped).direction(Undetermined), Unknown, "no session to see"),
        (
            "role undetermined, session",
            probed(PingState::NotRequested, Skipped).direction(Undetermined).established(1),
            Ok,
            "1 session",
        ),
        // A port of ours is judged by the socket table.
        ("listens", probed(PingState::NotRequested, Skipped).direction(Inbound).listening(), Ok, "nobody is connected"),
        (
            "listens, peers",
            probed(PingState::NotRequested, Skipped).direction(Inbound).listening().established(2),
            Ok,
            "2 peers connected",
        ),
        ("does not listen", probed(PingState::NotRequested, Skipped).direction(Inbound), Failed, "not running"),
        (
            "peers, but no listener",
            probed(PingState::NotRequested, Skipped).direction(Inbound).established(1),
            Degraded,
            "any more",
        ),
        ("unread", probed(PingState::NotRequested, Skipped).direction(Inbound).sockets_unread(), Unknown, "could not be read"),
    ];
    for (name, case, verdict, because) in &cases {
        let judged = case.judged();
        assert_eq!(judged.verdict, *verdict, "{name}: {}", judged.reason);
        assert!(judged.reason.contains(because), "{name}: `{}` does not say `{because}`", judged.reason);
    }
}

fn finding(code: &str, severity: Severity, count: u64, message: &str) -> Finding {
    let (code, message) = (code.to_owned(), message.to_owned());
    Finding { code, severity, count, first_at: None, last_at: None, endpoint_id: None, message, packets: Vec::new() }
}

/// Every code of the catalogue, as an alarm and as a warning: what is not bearable degrades, in the finding's own words.
#[test]
fn every_finding_degrades_but_for_bearable_warnings_and_notes() {
    const BEARABLE: [&str; 10] = [
        "tcp.syn_retried",
        "tcp.reset",
        "tcp.half_open",
        "tcp.retransmissions",
        "modbus.unanswered",
        "modbus.exceptions",
        "heartbeat.not_seen",
        "dnp3.unanswered",
        "dnp3.crc_errors",
        "kernel.session_lost",
    ];
    for entry in catalogue::ENTRIES {
        let with = |severity| {
            let found = finding(entry.code, severity, 1, "in its own words");
            probed(Answered, Open).wire(|seen| seen.findings.push(found)).judged()
        };
        let alarm = with(Severity::Alarm);
        assert_eq!((alarm.verdict, alarm.reason.ends_with("but in its own words")), (Degraded, true), "{}: {alarm:?}", entry.code);
        let expected = if BEARABLE.contains(&entry.code) { Ok } else { Degraded };
        assert_eq!(with(Severity::Warning).verdict, expected, "{} as a warning", entry.code);
        assert_eq!(with(Severity::Info).verdict, Ok, "{} as a note", entry.code);
    }
}

/// A device that takes one connection only is well, although nobody answered the test's own; a session that fares no better is not.
#[test]
fn a_connect_of_the_test_that_failed_is_no_alarm_against_a_live_session() {
    let full = |code: &str| {
        let found = finding(code, Severity::Alarm, 1, "nobody answered");
        let icmp = |case: Case| if code == "icmp.unreachable" { case.icmp("10.0.0.2", 10, "prohibited") } else { case };
        let case = probed(Answered, TimedOut).syn(1, 0).modbus(9, 9, 0, 0, 4.0).established(1);
        icmp(case).wire(|seen| seen.findings.push(found))
    };
    for code in ["tcp.syn_unanswered", "tcp.refused", "icmp.unreachable"] {
        assert_eq!(full(code).judged().verdict, Ok, "{code}");
        let others = full(code).wire(|seen| {
            (seen.session.unanswered_attempts, seen.session.refused) = (1, 1);
            seen.attempt.icmp.clear();
        });
        assert_eq!(others.judged().verdict, Degraded, "{code} of others");
    }
}

#[test]
fn a_name_that_does_not_resolve_is_a_failure_that_says_so() {
    let mut endpoint = endpoint(Protocol::Modbus, Outbound, "10.0.0.2", 502);
    endpoint.address = None;
    let connect = ConnectReport::not_made(Skipped, Some("the host name `bms-one.local` could not be resolved".to_owned()));
    let ping = PingReport::not_requested(None);
    let kernel = KernelView::default();
    let facts = Facts {
        endpoint: &endpoint,
        ping: &ping,
        connect: &connect,
        kernel: Some(&kernel),
        evidence: None,
        silent_neighbour: None,
        timeout_ms: 3500,
        slow_connect_ms: 500,
        degraded_from: DegradedFrom::default(),
    };
    assert_eq!(judge(&facts), Judgement::new(Failed, "the host name `bms-one.local` could not be resolved"));
}

#[test]
fn no_combination_is_left_without_a_reason() {
    for direction in [Outbound, Inbound, Undetermined] {
        for ping in [Answered, NoAnswer, PingState::Error, PingState::NotRequested] {
            for connect in [Open, Refused, TimedOut, Unreachable, Reset, Error, Skipped, NotRequested] {
                for case in [
                    probed(ping, connect),
                    probed(ping, connect).sockets_unread(),
                    probed(ping, connect).established(1),
                    probed(ping, connect).syn(1, 0).arp(2, 0),
                    probed(ping, connect).modbus(5, 5, 0, 0, 1.0),
                ] {
                    let judged = case.direction(direction).judged();
                    assert!(judged.reason.len() > 10 && !judged.reason.contains("  "), "{judged:?}");
                }
            }
        }
    }
}
