//! Faults made on purpose on live connections, recorded by our own capture, and what the analysis says of each: devices that answer
//! wrongly, and a network that loses, delays, swaps and doubles segments. They need root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "faults/modbus.rs"]
mod modbus;
#[path = "probe/namespace.rs"]
mod namespace;
#[path = "faults/path.rs"]
mod path;
#[path = "faults/record.rs"]
mod record;
mod support;

use modbus::{Answer, Client, adu, id_of, other_id_of};
use netdiag::{analysis::AnalysisSettings, api::ModbusReport};
use path::{Fate, Fates, LINK, Path, SERVER};
use record::{Recorded, Seen, join, record};
use std::{
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};
use support::private_network;

const PORT: u16 = 502;
/// The request that the fault befalls, and how many there are.
const FAULTY: u16 = 3;
const POLLS: u64 = 8;
/// No answer that is not held up on purpose takes that long; one that is takes three times as long.
const TIMEOUT: Duration = Duration::from_millis(300);
const LATE: Duration = Duration::from_millis(950);

fn settings(slow: Duration, timeout: Duration) -> AnalysisSettings {
    AnalysisSettings { slow_response: slow, response_timeout: timeout, ..AnalysisSettings::default() }
}

fn modbus_of(seen: &Seen) -> &ModbusReport {
    seen.server.modbus.as_ref().expect("Modbus was seen")
}

/// What the fault of a device looks like. The client sends on, whatever it is answered.
fn device_that_answers(script: &'static [Answer]) -> (Recorded, Seen) {
    private_network();
    let settings = settings(TIMEOUT, TIMEOUT);
    let listener = TcpListener::bind(("127.0.0.1", PORT)).unwrap();
    let recorded = record("lo", &settings, || {
        let server = modbus::serve(listener, script);
        let mut client = Client::new(TcpStream::connect(("127.0.0.1", PORT)).unwrap());
        for _ in 1..POLLS {
            client.ask();
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(LATE + Duration::from_millis(100));
        client.ask();
        thread::sleep(Duration::from_millis(50));
        client.close();
        join("the server ends", server);
    });
    let seen = recorded.analyse(&settings);
    (recorded, seen)
}

const fn script(fault: Answer) -> [Answer; 4] {
    [Answer::Well, Answer::Well, Answer::Well, fault]
}

/// The payload of the first packet that a finding names.
fn evidence(recorded: &Recorded, seen: &Seen, code: &str) -> Vec<u8> {
    recorded.payload(*seen.finding(code).packets.first().expect("a finding names packets"))
}

fn good_answer() -> Vec<u8> {
    adu(id_of(FAULTY), modbus::UNIT, &[3, 4, 0, FAULTY as u8, FAULTY as u8, 0])
}

#[test]
fn an_answer_after_the_next_request_is_late_and_belongs_to_its_own() {
    let (recorded, seen) = device_that_answers(const { &script(Answer::After(LATE)) });
    let modbus = modbus_of(&seen);
    assert_eq!(seen.counts(""), [("modbus.late", 1)]);
    assert_eq!((modbus.requests, modbus.responses, modbus.late, modbus.unanswered), (POLLS, POLLS, 1, 0));
    assert!(modbus.response_ms.as_ref().unwrap().max >= LATE.as_secs_f64() * 1e3, "{modbus:?}");
    assert_eq!(evidence(&recorded, &seen, "modbus.late"), good_answer());
}

#[test]
fn a_request_that_is_never_answered_is_known_to_have_arrived() {
    let (recorded, seen) = device_that_answers(const { &script(Answer::Never) });
    let modbus = modbus_of(&seen);
    assert_eq!(seen.counts(""), [("modbus.unanswered", 1)]);
    assert_eq!((modbus.requests, modbus.responses), (POLLS, POLLS - 1));
    assert_eq!((modbus.unanswered, modbus.unanswered_acknowledged), (1, 1));
    assert_eq!(evidence(&recorded, &seen, "modbus.unanswered"), modbus::request(FAULTY));
}

#[test]
fn an_answer_that_comes_twice_is_told_once() {
    let (recorded, seen) = device_that_answers(const { &script(Answer::Twice) });
    let modbus = modbus_of(&seen);
    assert_eq!(seen.counts(""), [("modbus.duplicate", 1)]);
    assert_eq!((modbus.requests, modbus.responses, modbus.duplicate, modbus.unanswered), (POLLS, POLLS, 1, 0));
    assert_eq!(evidence(&recorded, &seen, "modbus.duplicate"), good_answer());
}

#[test]
fn an_exception_is_an_answer() {
    let (recorded, seen) = device_that_answers(const { &script(Answer::Exception) });
    let modbus = modbus_of(&seen);
    assert_eq!(seen.counts(""), [("modbus.exceptions", 1)]);
    assert_eq!((modbus.requests, modbus.responses, modbus.exceptions, modbus.unanswered), (POLLS, POLLS, 1, 0));
    assert_eq!((modbus.exception_codes[0].code, modbus.exception_codes[0].count), (modbus::FAILURE, 1));
    let exception = adu(id_of(FAULTY), modbus::UNIT, &[0x83, modbus::FAILURE]);
    assert_eq!(evidence(&recorded, &seen, "modbus.exceptions"), exception);
}

#[test]
fn an_answer_with_another_unit_or_transaction_leaves_its_request_unanswered() {
    let values = [3, 4, 0, FAULTY as u8, FAULTY as u8, 0];
    let other_unit = adu(id_of(FAULTY), modbus::UNIT + 1, &values);
    let other_id = adu(other_id_of(FAULTY), modbus::UNIT, &values);
    for (script, code, answer) in [
        (const { &script(Answer::OtherUnit) }, "modbus.wrong_unit_id", other_unit),
        (const { &script(Answer::OtherId) }, "modbus.wrong_transaction_id", other_id),
    ] {
        let (recorded, seen) = device_that_answers(script);
        let modbus = modbus_of(&seen);
        assert_eq!(seen.counts(""), [("modbus.unanswered", 1), (code, 1)]);
        assert_eq!((modbus.requests, modbus.responses, modbus.unanswered), (POLLS, POLLS - 1, 1));
        assert_eq!(evidence(&recorded, &seen, code), answer);
        assert_eq!(evidence(&recorded, &seen, "modbus.unanswered"), modbus::request(FAULTY));
    }
}

/// Polls over a cable, each request after the answer to the one before, recorded at the client.
fn polls_over(to_server: Fates, to_client: Fates, script: &'static [Answer], settings: &AnalysisSettings) -> Recorded {
    let path = Path::new(to_server, to_client);
    let server = path.server.run(move || modbus::serve(TcpListener::bind((SERVER, PORT)).unwrap(), script));
    let settings = settings.clone();
    path.client.run(move || {
        record(LINK, &settings, || {
            let mut client = Client::new(TcpStream::connect((SERVER, PORT)).unwrap());
            client.poll(POLLS as usize);
            client.close();
            join("the server ends", server);
        })
    })
}

/// Whatever happened to segments: each request was asked once and answered once, and nothing was lost by the capture.
fn assert_answered(seen: &Seen) {
    let modbus = modbus_of(seen);
    assert_eq!((modbus.requests, modbus.responses, modbus.unanswered), (POLLS, POLLS, 0), "{modbus:#?}");
    assert_eq!((modbus.duplicate, modbus.unexpected, modbus.malformed), (0, 0, 0), "{modbus:#?}");
    assert_eq!(seen.server.tcp.lost_segments, 0);
}

/// Compares with what `tshark` counts.
fn assert_tshark_agrees(recorded: &Recorded, seen: &Seen) {
    let tcp = &seen.server.tcp;
    for (field, ours) in [
        ("tcp.analysis.retransmission", tcp.retransmissions),
        ("tcp.analysis.out_of_order", tcp.out_of_order),
        ("tcp.analysis.duplicate_ack", tcp.duplicate_acks),
    ] {
        let Some(theirs) = recorded.tshark(field) else { return };
        assert_eq!(theirs.len() as u64, ours, "{field}: {theirs:?} {tcp:#?}");
    }
    let Some(times) = recorded.tshark("modbus.response_time") else { return };
    let mut times: Vec<f64> = times.iter().map(|time| time.parse::<f64>().unwrap() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let ours = modbus_of(seen).response_ms.as_ref().unwrap();
    assert_eq!(times.len() as u64, modbus_of(seen).responses);
    let (low, high) = (times[(times.len() - 1) / 2], times[times.len() / 2]);
    let median = ours.median.unwrap();
    assert!((low * 0.95..=high * 1.05).contains(&median), "{median} ms; tshark: {times:?}");
    assert!((ours.max / times[times.len() - 1] - 1.0).abs() < 0.01, "{} ms; tshark: {times:?}", ours.max);
}

/// The least time in which Linux sends a segment again that nobody acknowledged is 200 ms.
const SENT_AGAIN_AFTER_MS: f64 = 190.0;

#[test]
fn a_lost_request_is_sent_again_and_not_called_unanswered() {
    let settings = AnalysisSettings::default();
    let recorded = polls_over(&[(FAULTY as usize, Fate::Lost)], &[], &[], &settings);
    let seen = recorded.analyse(&settings);
    assert_answered(&seen);
    let tcp = &seen.server.tcp;
    assert_eq!(
        (tcp.retransmissions, tcp.spurious_retransmissions, tcp.fast_retransmissions, tcp.out_of_order),
        (1, 0, 0, 0),
        "{tcp:#?}"
    );
    assert_eq!(seen.counts(""), [("tcp.retransmissions", 1)]);
    assert!(modbus_of(&seen).response_ms.as_ref().unwrap().max > SENT_AGAIN_AFTER_MS, "counted from the first request");
    assert_eq!(evidence(&recorded, &seen, "tcp.retransmissions"), modbus::request(FAULTY));
    assert_tshark_agrees(&recorded, &seen);
}
