//! Faults made on purpose on live connections, recorded by our own capture, and what the analysis says of each: devices that answer
//! wrongly, and a network that loses, delays, swaps and doubles segments. They need root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "faults/dnp3.rs"]
mod dnp3;
#[path = "faults/host.rs"]
mod host;
#[path = "faults/modbus.rs"]
mod modbus;
#[allow(dead_code)]
#[path = "probe/namespace.rs"]
mod namespace;
#[path = "faults/path.rs"]
mod path;
#[path = "faults/record.rs"]
mod record;
#[path = "support/second_opinion.rs"]
mod second_opinion;
mod support;

use host::{Asker, Host, REFUSED_UNIT};
use modbus::{Answer, Client, adu, id_of, other_id_of};
use netdiag::{
    analysis::{AnalysisSettings, Watch},
    api::{AnalysisVerdict, Direction, Dnp3Report, Finding, ModbusReport, Protocol, Severity},
    lab::{Behaviour, CONTROLLER_LINK, DeviceSpec, Placement, Site},
    protocol::dnp3::{Application, Control, Function, Indications, objects},
};
use path::{Fate, Fates, LINK, Path, SERVER};
use record::{Recorded, Seen, join, record, without_hiccup};
use std::{
    io::{ErrorKind, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use support::{needs, private_network};

const PORT: u16 = 502;
/// The request that the fault befalls, and how many there are.
const FAULTY: u16 = 3;
const POLLS: u64 = 6;
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
    let settings = settings(TIMEOUT, TIMEOUT);
    let recorded = without_hiccup(|| requests_to(script, &settings));
    recorded.assert_tshark_sees_the_same(&settings);
    let seen = recorded.analyse(&settings);
    (recorded, seen)
}

fn requests_to(script: &'static [Answer], settings: &AnalysisSettings) -> Recorded {
    private_network();
    let listener = TcpListener::bind(("127.0.0.1", PORT)).unwrap();
    record("lo", settings, || {
        let server = modbus::serve(listener, script);
        let mut client = Client::new(TcpStream::connect(("127.0.0.1", PORT)).unwrap());
        for _ in 1..POLLS {
            client.ask();
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(if script.contains(&Answer::After(LATE)) { LATE } else { TIMEOUT } + Duration::from_millis(100));
        client.ask();
        thread::sleep(Duration::from_millis(50));
        client.close();
        join("the server ends", server);
    })
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

/// What befalls the segment of that request, or of its answer.
fn at_fault(fate: Fate) -> Fates {
    vec![(usize::from(FAULTY), fate)]
}

/// Polls over a cable, each request after the answer to the one before, recorded at the client.
fn polls_over(to_server: Fates, to_client: Fates, script: &'static [Answer], settings: &AnalysisSettings) -> Recorded {
    without_hiccup(|| polls_once_over(to_server.clone(), to_client.clone(), script, settings))
}

fn polls_once_over(to_server: Fates, to_client: Fates, script: &'static [Answer], settings: &AnalysisSettings) -> Recorded {
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
    let fields = ["tcp.analysis.retransmission", "tcp.analysis.out_of_order", "tcp.analysis.duplicate_ack", "modbus.response_time"];
    let Some([again, late, acknowledged_again, times]) = recorded.tshark(fields) else { return };
    let tcp = &seen.server.tcp;
    assert_eq!(
        [again, late, acknowledged_again].map(|packets| packets.len() as u64),
        [tcp.retransmissions, tcp.out_of_order, tcp.duplicate_acks]
    );
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
    let recorded = polls_over(at_fault(Fate::Lost), Vec::new(), &[], &settings);
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

#[test]
fn a_lost_answer_is_a_slow_one_and_no_gap() {
    // That the network lost it cannot be seen at the client: the first copy that comes is the first one there is.
    let settings = settings(Duration::from_millis(SENT_AGAIN_AFTER_MS as u64), Duration::from_secs(3));
    let recorded = polls_over(Vec::new(), at_fault(Fate::Lost), &[], &settings);
    let seen = recorded.analyse(&settings);
    assert_answered(&seen);
    assert_eq!(seen.counts("modbus."), [("modbus.slow", 1)]);
    assert_eq!(evidence(&recorded, &seen, "modbus.slow"), good_answer());
    assert_eq!(seen.counts("capture."), []);
    assert_eq!(seen.server.tcp.out_of_order, 0);
}

#[test]
fn an_answer_of_which_the_first_part_comes_last_is_there_with_that_part() {
    // Shorter than the time after which it is sent again.
    let delay = Duration::from_millis(150);
    let settings = settings(Duration::from_millis(100), Duration::from_secs(3));
    let recorded = polls_over(Vec::new(), at_fault(Fate::Delayed(delay)), const { &script(Answer::InParts) }, &settings);
    let seen = recorded.analyse(&settings);
    assert_answered(&seen);
    assert_eq!(seen.counts("modbus."), [("modbus.slow", 1)]);
    assert!(modbus_of(&seen).response_ms.as_ref().unwrap().max >= 150.0);
    assert!(evidence(&recorded, &seen, "modbus.slow").starts_with(&good_answer()[..9]), "the part that was missing");
    assert_eq!(seen.counts("capture."), []);
    // Whether it was late or lost and sent again nobody can tell at the client.
    assert_eq!(seen.server.tcp.out_of_order + seen.server.tcp.retransmissions, 1);
}

#[test]
fn a_part_that_was_lost_on_the_way_to_the_client_is_sent_again_and_not_out_of_order() {
    let settings = AnalysisSettings::default();
    let recorded = polls_over(Vec::new(), at_fault(Fate::Lost), const { &script(Answer::InParts) }, &settings);
    let seen = recorded.analyse(&settings);
    assert_answered(&seen);
    let tcp = &seen.server.tcp;
    assert_eq!((tcp.retransmissions, tcp.spurious_retransmissions, tcp.out_of_order), (1, 0, 0), "{tcp:#?}");
    assert_eq!(seen.counts(""), [("tcp.retransmissions", 1)]);
    assert_tshark_agrees(&recorded, &seen);
}

#[test]
fn swapped_segments_are_out_of_order_and_not_sent_again() {
    let settings = AnalysisSettings::default();
    let script = const { &script(Answer::InParts) };
    let recorded = polls_over(Vec::new(), at_fault(Fate::BehindNext), script, &settings);
    let seen = recorded.analyse(&settings);
    assert_answered(&seen);
    let tcp = &seen.server.tcp;
    assert_eq!((tcp.out_of_order, tcp.retransmissions, tcp.duplicate_acks), (1, 0, 1), "{tcp:#?}");
    assert_eq!(seen.counts(""), []);
    assert_tshark_agrees(&recorded, &seen);
}

#[test]
fn a_segment_that_the_network_doubled_is_a_copy_at_once_and_sent_again_later() {
    let copy_window = Duration::from_millis(60);
    let settings = AnalysisSettings { copy_window, ..AnalysisSettings::default() };
    let recorded = polls_over(Vec::new(), at_fault(Fate::Again(Duration::ZERO)), &[], &settings);
    let seen = recorded.analyse(&settings);
    assert_answered(&seen);
    assert_eq!((seen.copies, seen.server.tcp.retransmissions), (1, 0), "{:#?}", seen.server.tcp);
    assert_eq!(seen.counts(""), [("capture.copies", 1)]);
    // The same packets, held for two when they are further apart than nothing.
    let strict = AnalysisSettings { copy_window: Duration::ZERO, numbered_copy_window: Duration::ZERO, ..settings.clone() };
    let seen = recorded.analyse(&strict);
    assert_answered(&seen);
    let tcp = &seen.server.tcp;
    assert_eq!((seen.copies, tcp.retransmissions, tcp.spurious_retransmissions), (0, 1, 1), "{tcp:#?}");

    let recorded = polls_over(Vec::new(), at_fault(Fate::Again(3 * copy_window)), &[], &settings);
    let seen = recorded.analyse(&settings);
    assert_answered(&seen);
    let tcp = &seen.server.tcp;
    assert_eq!((seen.copies, tcp.retransmissions, tcp.spurious_retransmissions), (0, 1, 1), "{tcp:#?}");
    assert_eq!(seen.counts(""), [("tcp.retransmissions", 1)]);
    assert_eq!(evidence(&recorded, &seen, "tcp.retransmissions"), good_answer());
}

#[test]
fn an_answer_that_the_network_held_up_is_slow_or_late_by_the_time_out() {
    let settings = settings(TIMEOUT, Duration::from_secs(5));
    let recorded = polls_over(Vec::new(), at_fault(Fate::Stalled(LATE)), &[], &settings);
    for (timeout, code) in [(settings.response_timeout, "modbus.slow"), (TIMEOUT, "modbus.late")] {
        let seen = recorded.analyse(&AnalysisSettings { response_timeout: timeout, ..settings.clone() });
        assert_answered(&seen);
        assert_eq!(seen.counts("modbus."), [(code, 1)]);
        assert_eq!(evidence(&recorded, &seen, code), good_answer());
        // A side without an acknowledgement grew impatient; whether both did, and how often, is chance.
        assert!(seen.server.tcp.retransmissions >= 1, "{:#?}", seen.server.tcp);
        assert_eq!((seen.server.tcp.out_of_order, seen.copies), (0, 0));
    }
}

fn dnp3_of(seen: &Seen) -> &Dnp3Report {
    seen.server.dnp3.as_ref().expect("DNP3 was seen")
}

/// An outstation that serves two connections: two polls, then it restarts, and says so until it is told that this is known.
fn outstation_that_restarts(listener: TcpListener) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for mut indications in [Indications::default(), Indications::DEVICE_RESTART] {
            let mut end = dnp3::End::outstation(listener.accept().unwrap().0);
            let mut polls = 0;
            while let Some((request, written)) = end.receive(Duration::from_secs(5)) {
                if request.function == Function::WRITE && written == objects::CLEAR_RESTART {
                    indications = Indications::default();
                }
                end.send(Application::response(Control::request(request.control.sequence), indications), &[]);
                polls += 1;
                if polls == 2 && indications == Indications::default() && written != objects::CLEAR_RESTART {
                    break;
                }
            }
        }
    })
}

/// A master that polls twice on each of two connections, and in between on the second one takes note of a restart, or does not.
fn master_of_one_that_restarts(takes_note: bool) -> (Recorded, Seen) {
    private_network();
    let settings = AnalysisSettings::default();
    let place = ("127.0.0.1", 20_000);
    let listener = TcpListener::bind(place).unwrap();
    let recorded = record("lo", &settings, || {
        let outstation = outstation_that_restarts(listener);
        let clear = (Function::WRITE, &objects::CLEAR_RESTART[..]);
        let poll = (Function::READ, &objects::CLASS_1230[..]);
        for requests in [vec![poll, poll], if takes_note { vec![poll, clear, poll] } else { vec![poll, poll] }] {
            let mut end = dnp3::End::master(TcpStream::connect(place).unwrap());
            for (sequence, (function, objects)) in (0..).zip(requests) {
                end.send(Application::request(Control::request(sequence), function), objects);
                end.receive(Duration::from_secs(20)).expect("an answer");
            }
            end.close();
        }
        join("the outstation ends", outstation);
    });
    recorded.assert_tshark_sees_the_same(&settings);
    let seen = recorded.analyse(&settings);
    (recorded, seen)
}

#[test]
fn an_outstation_that_restarts_between_two_polls_is_told_with_whether_its_master_took_note() {
    for (takes_note, requests, responses) in [(true, 5, 1), (false, 4, 2)] {
        let (recorded, seen) = master_of_one_that_restarts(takes_note);
        let report = dnp3_of(&seen);
        assert_eq!((report.requests, report.responses, report.unanswered, report.restarts), (requests, requests, 0, 1));
        assert_eq!(seen.counts("dnp3."), [("dnp3.device_restart", responses)]);
        let [bit] = &report.indications[..] else { panic!("{:?}", report.indications) };
        assert_eq!((bit.responses, bit.still_set), (responses, !takes_note));
        // The link header of ten bytes, transport, control and function: then come the internal indications.
        assert_eq!(evidence(&recorded, &seen, "dnp3.device_restart")[13..15], [0x80, 0]);
    }
}

/// A master of an outstation of the lab that reports unasked; it lets it, and confirms the reports or does not.
fn master_of_one_that_reports(confirms: bool) -> Seen {
    private_network();
    let relay = DeviceSpec::dnp3("relay", Behaviour::Healthy).reporting_every(Duration::from_millis(100));
    let site = Site::build(Placement::Loopback, vec![relay]).unwrap();
    let place = site.device("relay").unwrap().socket_address();
    // A confirm that comes is in time, however slow the machine is.
    let timeout = if confirms { Duration::from_secs(20) } else { TIMEOUT };
    let settings = AnalysisSettings { dnp3_ports: vec![place.port()], ..settings(timeout, timeout) };
    let recorded = record("lo", &settings, || {
        let mut end = dnp3::End::master(TcpStream::connect(place).unwrap());
        end.send(Application::request(Control::request(0), Function::ENABLE_UNSOLICITED), &objects::CLASS_123);
        let (mut reports, mut answers) = (0, 0);
        // The first report tells of the restart; more than the time-out goes by until the last one.
        while reports < 12 {
            let (message, _) = end.receive(Duration::from_secs(20)).expect("a report");
            if message.function == Function::RESPONSE {
                answers += 1;
                continue;
            }
            reports += 1;
            assert!(message.control.confirm && message.control.unsolicited);
            if confirms {
                end.send(Application::request(message.control.confirmation(), Function::CONFIRM), &[]);
            }
        }
        assert_eq!(answers, 1);
    });
    recorded.assert_tshark_sees_the_same(&settings);
    recorded.analyse(&settings)
}

#[test]
fn a_master_that_withholds_its_confirms_is_found_and_one_that_sends_them_is_not() {
    let confirmed = master_of_one_that_reports(true);
    let report = dnp3_of(&confirmed);
    assert!(report.unsolicited >= 12 && report.unconfirmed == 0, "{report:#?}");
    assert_eq!((report.requests, report.responses, report.unanswered), (1, 1, 0), "a confirm is no request");
    assert!(confirmed.counts("dnp3.").iter().all(|(code, _)| *code == "dnp3.device_restart"), "{:#?}", confirmed.findings);

    let withheld = master_of_one_that_reports(false);
    let report = dnp3_of(&withheld);
    // Those of the last moments might still be confirmed.
    assert!(report.unsolicited >= 12 && report.unconfirmed >= 6, "{report:#?}");
    assert_eq!(withheld.finding("dnp3.unconfirmed").count, report.unconfirmed);
    assert_eq!(report.unanswered, 0, "a report is no request");
}

fn watch(server: SocketAddr) -> Watch {
    Watch {
        endpoint_id: server.to_string(),
        protocol: Protocol::Modbus,
        direction: Direction::Outbound,
        address: Some(server.ip()),
        port: Some(server.port()),
        gateway: None,
    }
}

/// On a machine that is busy, segments are sent again now and then that were not lost; so many never.
const SENT_AGAIN_BY_CHANCE: u64 = 1000;

/// What somebody should look at, by code, worst first.
fn to_look_at(findings: &[Finding]) -> Vec<&str> {
    let worse = findings.iter().filter(|finding| finding.severity >= Severity::Warning);
    worse.map(|finding| finding.code.as_str()).collect()
}

fn find<'a>(findings: &'a [Finding], code: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.code == code).unwrap_or_else(|| panic!("no {code} in {findings:#?}"))
}

/// Two hosts poll each other; one read is always refused; and for a few seconds one of the hosts stalls, answers late when it goes on, and
/// is connected to anew. That is one fault of the config, and one event: not one of each service.
#[test]
fn the_chronic_and_the_acute_are_two_things_and_the_acute_one_is_the_host() {
    const EMS: &str = "10.9.1.1";
    const DEVICE: &str = "10.9.1.2";
    const EVERY: Duration = Duration::from_millis(100);
    const PATIENCE: Duration = Duration::from_millis(900);
    let (ems, device) = (namespace::Namespace::new(), namespace::Namespace::new());
    ems.link_to(&device, LINK, &format!("{EMS}/24"), &format!("{DEVICE}/24"));
    let place = |address: &str, port: u16| SocketAddr::new(address.parse().unwrap(), port);
    let (ports, back) = ([place(DEVICE, 502), place(DEVICE, 503)], place(EMS, 502));
    let host = Arc::new(Host::default());
    // The first connection, and the one that is made anew.
    let servers = ports.map(|port| {
        let host = Arc::clone(&host);
        device.run(move || {
            let listener = TcpListener::bind(port).unwrap();
            thread::spawn(move || host.serve(&listener, 2))
        })
    });
    let modbus_ports = vec![502, 503];
    let settings = AnalysisSettings { modbus_ports, retransmissions_min: SENT_AGAIN_BY_CHANCE, ..settings(PATIENCE, PATIENCE) };
    let (recording, stalls) = (settings.clone(), Arc::clone(&host));
    let (recorded, refused) = ems.run(move || {
        let mut refused = 0;
        let recorded = record(LINK, &recording, || {
            let listener = TcpListener::bind(back).unwrap();
            let answers_back = thread::spawn(move || Host::default().serve(&listener, 1));
            let is_over = Arc::new(AtomicBool::new(false));
            let (is_over_there, stalls_too) = (Arc::clone(&is_over), Arc::clone(&stalls));
            let asks_back = device.run(move || {
                let mut asker = Asker::connect(back);
                thread::spawn(move || {
                    while !is_over_there.load(Ordering::Relaxed) {
                        stalls_too.run();
                        asker.ask(1, 3);
                        thread::sleep(EVERY);
                    }
                    asker.close();
                })
            });
            let mut askers = ports.map(Asker::connect);
            let mut polls = |askers: &mut [Asker; 2], rounds: u32| {
                for round in 0..rounds {
                    askers.iter_mut().for_each(|asker| asker.ask(1, 3));
                    if round % 4 == 0 {
                        askers[0].ask(REFUSED_UNIT, 4);
                        refused += 1;
                    }
                    thread::sleep(EVERY);
                }
            };
            polls(&mut askers, 10);
            stalls.stall();
            polls(&mut askers, 25);
            stalls.go_on();
            polls(&mut askers, 8);
            askers.into_iter().for_each(Asker::give_up);
            let mut askers = ports.map(Asker::connect);
            polls(&mut askers, 10);
            thread::sleep(EVERY);
            askers.into_iter().for_each(Asker::close);
            is_over.store(true, Ordering::Relaxed);
            join("the device asks no more", asks_back);
            join("the management system answers no more", answers_back);
            servers.into_iter().for_each(|server| join("the services end", server));
        });
        (recorded, refused)
    });
    recorded.assert_tshark_sees_the_same(&settings);
    let looked = recorded.looked_at(&settings, ports.into_iter().chain([back]).map(watch).collect());
    let report = looked.report();
    assert_eq!(to_look_at(&report.findings), ["host.stalled", "modbus.exceptions"], "{:#?}", report.findings);
    let stalled = find(&report.findings, "host.stalled");
    assert_eq!(stalled.severity, Severity::Alarm);
    let begins = format!("{DEVICE} stopped answering on ports 502 and 503 at the same time, at ");
    let ends = "s after it began: the host or the network stalled, not one service";
    assert!(stalled.message.starts_with(&begins) && stalled.message.ends_with(ends), "{}", stalled.message);
    assert!(stalled.message.contains("; its connections were made anew "), "{}", stalled.message);
    let exceptions = find(&report.findings, "modbus.exceptions");
    assert_eq!(exceptions.count, refused);
    assert!(exceptions.message.contains("unit 255, offset 0, count 1"), "{}", exceptions.message);
    // That is the first look in one paragraph: the host first, and the read that is always refused.
    assert_eq!(report.reasons, [stalled.message.clone(), exceptions.message.clone()]);
    assert!(report.text.starts_with("2 things to look at in "), "{}", report.text);
    assert!(report.text.contains(&format!("the worst first: {}. {}", stalled.message, exceptions.message)), "{}", report.text);
    // What follows from the stall is told beside it, as no more than that.
    for code in ["modbus.late", "tcp.reset", "tcp.reconnects"] {
        let of_device = report.findings.iter().filter(|finding| finding.code == code && finding.message.contains(DEVICE));
        for finding in of_device.filter(|finding| finding.first_at < stalled.last_at) {
            assert!(finding.message.ends_with("this belongs to the stall of the whole host"), "{finding:#?}");
        }
        assert!(codes_of(&report.findings).contains(&code), "{:#?}", report.findings);
    }
    for (server, expected) in [(ports[0], &["host.stalled", "modbus.exceptions"][..]), (ports[1], &["host.stalled"]), (back, &[])] {
        let evidence = looked.evidence(&server.to_string(), &[]).unwrap();
        assert_eq!(to_look_at(&evidence.findings), expected, "{server}: {:#?}", evidence.findings);
    }
}

fn codes_of(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.as_str()).collect()
}

/// A device has room for two connections and says nothing to a third; and the same reads are refused at every poll.
#[test]
fn a_third_connection_refused_by_silence_and_reads_that_are_always_refused() {
    private_network();
    const ROUNDS: u64 = 10;
    let refusing = Behaviour::Exceptions { registers: 20..=29, code: 2 };
    let site = Site::build(Placement::Namespaces, vec![DeviceSpec::modbus("bms", refusing).with_room_for(2)]).unwrap();
    let place = site.device("bms").unwrap().socket_address();
    let settings = AnalysisSettings { retransmissions_min: SENT_AGAIN_BY_CHANCE, ..AnalysisSettings::default() };
    let recorded = record(CONTROLLER_LINK, &settings, || {
        let mut streams = [(), ()].map(|()| TcpStream::connect_timeout(&place, Duration::from_secs(10)).unwrap());
        let mut third = None;
        for round in 0..ROUNDS {
            for stream in &mut streams {
                stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
                for (id, offset) in [(2 * round as u16, 10), (2 * round as u16 + 1, 20)] {
                    stream.write_all(&modbus::adu(id, 1, &[3, 0, offset, 0, 4])).unwrap();
                    let answer = modbus::read_adu(stream).expect("an answer");
                    assert_eq!((answer[7] == 0x83, answer[..2] == id.to_be_bytes()), (offset == 20, true));
                }
            }
            // Both are served by now, and beside them there is no room.
            third.get_or_insert_with(|| thread::spawn(move || TcpStream::connect_timeout(&place, Duration::from_millis(1500))));
            thread::sleep(Duration::from_millis(150));
        }
        assert_eq!(join("the third attempt ends", third.unwrap()).unwrap_err().kind(), ErrorKind::TimedOut);
    });
    recorded.assert_tshark_sees_the_same(&settings);
    let looked = recorded.looked_at(&settings, vec![watch(place)]);
    let report = looked.report();
    assert_eq!(to_look_at(&report.findings), ["tcp.syn_unanswered", "modbus.exceptions"], "{:#?}", report.findings);
    let [server] = &report.servers[..] else { panic!("not one server: {:#?}", report.servers) };
    let tcp = &server.tcp;
    assert_eq!((tcp.attempts, tcp.accepted, tcp.refused, tcp.unanswered, tcp.reconnects), (3, 2, 0, 1, 0), "{tcp:#?}");
    let modbus = server.modbus.as_ref().unwrap();
    assert_eq!((modbus.requests, modbus.responses, modbus.exceptions), (4 * ROUNDS, 4 * ROUNDS, 2 * ROUNDS), "{modbus:#?}");
    let unanswered = find(&report.findings, "tcp.syn_unanswered");
    assert_eq!((unanswered.severity, unanswered.count), (Severity::Warning, 1), "others get in");
    let (begins, ends) = (format!("1 connection attempt to {place} was not answered ("), "; 2 others were accepted");
    assert!(unanswered.message.starts_with(&begins) && unanswered.message.ends_with(ends), "{}", unanswered.message);
    let exceptions = find(&report.findings, "modbus.exceptions");
    assert_eq!(exceptions.count, 2 * ROUNDS);
    let refused =
        format!("{place} answered {} of {} requests with Modbus exception 2 (illegal data address)", 2 * ROUNDS, 4 * ROUNDS);
    assert!(
        exceptions.message.starts_with(&refused) && exceptions.message.contains("offset 20, count 4"),
        "{}",
        exceptions.message
    );
    assert_eq!(report.verdict, AnalysisVerdict::Suspect);
    assert_eq!(report.reasons, [unanswered.message.clone(), exceptions.message.clone()]);
    let evidence = looked.evidence(&place.to_string(), &[]).unwrap();
    assert_eq!((evidence.session.accepted, evidence.session.unanswered_attempts), (2, 1));
}
