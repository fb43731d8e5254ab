//! Figures that go on over analyses which overlap are those of one analysis over all packets.

use super::*;
use crate::{
    analysis::{Account, Meter},
    protocol::modbus::Adu,
};
use proptest::prelude::*;

pub(super) const SLOT_MS: f64 = 20_000.0;
pub(super) const OVERLAP_MS: f64 = 5_000.0;
pub(super) const SLOTS: u32 = 4;
pub(super) const DEVICES: [(&str, &str); 3] = [("a", "10.0.0.5:502"), ("b", "10.0.0.6:502"), ("c", "10.0.0.7:1502")];

/// What is asked of a device at a time, and what comes of it.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    Answer(u16),
    Exception(u16),
    /// After the response time-out, which is 2 s.
    Late,
    Nothing,
    /// The request's segment is sent again before the answer comes.
    Again,
    /// The connection is closed, or reset, and another one is opened.
    Reconnect(bool),
    /// An attempt from another port that is refused.
    Refused,
}

pub(super) fn watches() -> Vec<Watch> {
    DEVICES.map(|(id, address)| outbound(id, Protocol::Modbus, address)).into()
}

fn adu(transaction_id: u16, pdu: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Adu { transaction_id, unit_id: 1, pdu }.encode(&mut bytes).unwrap();
    bytes
}

/// The frames of all that happens, by time.
pub(super) fn frames(happens: &[(usize, u32, What)]) -> Vec<(f64, Vec<u8>)> {
    let mut steps: Vec<(f64, usize, usize, &'static str)> = Vec::new();
    for (number, (device, at, what)) in happens.iter().enumerate() {
        let at = f64::from(*at);
        let mut step = |after: f64, kind| steps.push((at + after, *device, number, kind));
        match what {
            What::Reconnect(true) => step(0.0, "close"),
            What::Reconnect(false) => step(0.0, "reset"),
            What::Refused => step(0.0, "refused"),
            asked => {
                step(0.0, if matches!(asked, What::Again) { "request twice" } else { "request" });
                match asked {
                    What::Answer(after) => step(f64::from(*after), "answer"),
                    What::Exception(after) => step(f64::from(*after), "exception"),
                    What::Late => step(3_000.0, "answer"),
                    What::Again => step(40.0, "answer"),
                    _ => {}
                }
            }
        }
    }
    steps.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut ports = 40_000_u16;
    let mut talks: Vec<Conversation> =
        DEVICES.iter().map(|(_, address)| Conversation::between(socket("10.0.0.1:39999"), socket(address))).collect();
    let mut made: Vec<(f64, Vec<u8>)> = Vec::new();
    let mut opened = vec![None; talks.len()];
    for (at, device, number, kind) in steps {
        let talk = &mut talks[device];
        let mut put = |after: f64, frame: Vec<u8>| made.push((at + after, frame));
        // What was asked on an earlier connection is not answered on a later one.
        let is_open = opened[device].is_some_and(|since: usize| since <= number) || kind.starts_with("request");
        if opened[device].is_none() && kind.starts_with("request") {
            ports += 1;
            *talk = Conversation::between(SocketAddr::new(ip_of("10.0.0.1"), ports), talk.server);
            talk.handshake().into_iter().enumerate().for_each(|(step, frame)| put(step as f64 * 0.2, frame));
            opened[device] = Some(number);
        }
        let id = number as u16;
        match kind {
            "request" => put(1.0, talk.send(false, &adu(id, &[3, 0, 100, 0, 10]))),
            "request twice" => {
                let frame = talk.send(false, &adu(id, &[3, 0, 100, 0, 10]));
                put(1.0, frame.clone());
                put(21.0, frame);
            }
            "answer" if is_open => put(1.0, talk.send(true, &adu(id, &[&[3, 20][..], &[0; 20]].concat()))),
            "exception" if is_open => put(1.0, talk.send(true, &adu(id, &[0x83, 2]))),
            "close" if opened[device].is_some() => {
                put(1.0, talk.fin(false));
                put(1.2, talk.fin(true));
                opened[device] = None;
            }
            "reset" if opened[device].is_some() => {
                put(1.0, talk.rst(true));
                opened[device] = None;
            }
            "refused" => {
                ports += 1;
                let mut attempt = Conversation::between(SocketAddr::new(ip_of("10.0.0.1"), ports), talk.server);
                put(1.0, attempt.syn());
                put(1.2, attempt.rst(true));
            }
            _ => {}
        }
    }
    made.sort_by(|left, right| left.0.total_cmp(&right.0));
    made
}

/// Takes the packets with snapshots that follow on one another, and ends a period at each of `periods`.
fn in_periods(frames: &[(f64, Vec<u8>)], periods: &[f64]) -> Vec<std::collections::BTreeMap<String, Meter>> {
    let (mut account, mut ended) = (Account::default(), Vec::new());
    let mut open: Vec<(u32, Site)> = vec![(0, Site::new(watches()))];
    let mut periods = periods.iter().peekable();
    for (at, frame) in frames {
        while periods.next_if(|end| *end < at).is_some() {
            account.read(open[0].1.analysis.meters());
            ended.push(account.take());
        }
        let newest = open.last().unwrap().0;
        if *at >= f64::from(newest + 1) * SLOT_MS - OVERLAP_MS {
            open.push((newest + 1, Site::new(watches())));
        }
        while *at >= f64::from(open[0].0 + 1) * SLOT_MS {
            account.read(open[0].1.analysis.meters());
            account.go_on_with(open[1].1.analysis.meters());
            open.remove(0);
        }
        for (_, site) in &mut open {
            site.at(*at, frame);
        }
    }
    account.read(open[0].1.analysis.meters());
    ended.push(account.take());
    ended
}

pub(super) fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        8 => (1_u16..60).prop_map(What::Answer),
        2 => (1_u16..60).prop_map(What::Exception),
        1 => Just(What::Late),
        2 => Just(What::Nothing),
        1 => Just(What::Again),
        1 => any::<bool>().prop_map(What::Reconnect),
        1 => Just(What::Refused),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn all_periods_together_are_one_analysis_over_all_packets(
        happens in prop::collection::vec((0..DEVICES.len(), 0..SLOTS * SLOT_MS as u32, what()), 1..150),
        mut periods in prop::collection::vec(0.0..f64::from(SLOTS) * SLOT_MS, 0..12),
    ) {
        periods.sort_by(f64::total_cmp);
        let mut frames = frames(&happens);
        // Time goes on, evenly: seams and time-outs do not wait for the next packet of somebody.
        frames.extend((0..SLOTS * 20 + 100).map(|tick| (f64::from(tick) * 1_000.0 + 0.5, udp(socket("10.9.9.9:9"), socket("10.9.9.8:9"), &[]))));
        frames.sort_by(|left, right| left.0.total_cmp(&right.0));
        let mut whole = Site::new(watches());
        for (at, frame) in &frames {
            whole.at(*at, frame);
        }
        let ended = in_periods(&frames, &periods);
        prop_assert_eq!(ended.len(), periods.len() + 1);
        for (endpoint_id, whole) in whole.analysis.meters() {
            let mut sum = Meter::default();
            ended.iter().filter_map(|period| period.get(&endpoint_id)).for_each(|period| sum.add(period));
            prop_assert_eq!(sum.last_seen_ns(), whole.last_seen_ns());
            let (sum, whole) = (sum.figures(Protocol::Modbus), whole.figures(Protocol::Modbus));
            // The longest time is as exact as a step of the histogram.
            let near = |left: Option<f64>, right: Option<f64>| match (left, right) {
                (Some(left), Some(right)) => (left - right).abs() <= 0.04 * right + 2e-3,
                (left, right) => left == right,
            };
            prop_assert!(near(sum.response_ms_max, whole.response_ms_max), "{:?} is not {:?}", sum.response_ms_max, whole.response_ms_max);
            prop_assert!(near(sum.response_ms_median, whole.response_ms_median));
            prop_assert!(near(sum.response_ms_min, whole.response_ms_min));
            let counts = |figures: crate::api::TrafficFigures| crate::api::TrafficFigures {
                response_ms_min: None, response_ms_median: None, response_ms_p95: None, response_ms_max: None, ..figures
            };
            prop_assert_eq!(counts(sum), counts(whole), "{}", endpoint_id);
        }
    }
}

#[test]
fn a_period_has_the_times_of_its_own_responses_and_no_others() {
    let ask = |device, at, after| (device, at, What::Answer(after));
    let happens = [ask(0, 100, 50), ask(0, 200, 50), ask(0, 1_100, 5), ask(0, 1_200, 5), ask(0, 1_300, 6), ask(1, 1_400, 1)];
    let ended = in_periods(&frames(&happens), &[1_000.0]);
    let of = |period: usize, id: &str| ended[period][id].figures(Protocol::Modbus);
    assert_eq!((of(0, "a").requests, of(0, "a").responses, of(0, "a").response_ms_max), (Some(2), Some(2), Some(50.0)));
    assert_eq!((of(0, "b").requests, of(0, "b").response_ms_median, of(0, "b").packets), (Some(0), None, 0));
    let second = of(1, "a");
    assert_eq!((second.requests, second.connects), (Some(3), 0));
    for (found, expected) in [(second.response_ms_median, 5.0), (second.response_ms_max, 6.0)] {
        assert!((found.unwrap() - expected).abs() < 0.04 * expected, "{found:?} is not {expected}");
    }
    assert_eq!((of(1, "b").connects, of(1, "b").connects_accepted, of(1, "b").server_packets), (1, 1, 2));
}

#[test]
fn of_an_outstation_the_unsolicited_and_the_damaged_count_too() {
    use crate::protocol::dnp3::{self, Application, Control, Function, Indications, LinkFunction, LinkHeader, objects};
    let (master, outstation) = (socket("10.0.0.1:41000"), socket("10.0.0.8:20000"));
    let mut site = Site::new(vec![outbound("rtu", Protocol::Dnp3, "10.0.0.8:20000")]);
    let mut talk = Conversation::between(master, outstation);
    site.all(0.0, talk.handshake());
    let from_master = |application: Application, objects: &[u8]| {
        dnp3::frames(LinkHeader::from_master(LinkFunction::UnconfirmedUserData, 10, 1), 63, &application.bytes(objects))
    };
    let from_outstation = |application: Application| {
        let header = LinkHeader::from_outstation(LinkFunction::UnconfirmedUserData, 1, 10);
        dnp3::frames(header, 63, &application.bytes(&objects::analog_inputs(&[7; 3])))
    };
    let mut account = Account::default();
    let mut period = |site: &Site| {
        account.read(site.analysis.meters());
        account.take()["rtu"].figures(Protocol::Dnp3)
    };
    let poll = |sequence| from_master(Application::request(Control::request(sequence), Function::READ), &objects::CLASS_1230);
    for sequence in 0..3 {
        let ms = 100.0 + f64::from(sequence) * 100.0;
        site.at(ms, talk.send(false, &poll(sequence)));
        site.at(
            ms + 20.0,
            talk.send(true, &from_outstation(Application::response(Control::request(sequence), Indications::default()))),
        );
    }
    let first = period(&site);
    assert_eq!((first.requests, first.responses, first.unanswered, first.unsolicited), (Some(3), Some(3), Some(0), Some(0)));
    assert_eq!((first.exceptions, first.response_ms_min, first.response_ms_max), (None, Some(20.0), Some(20.0)));

    for sequence in 0..2 {
        let report = Application::unsolicited(sequence, Indications::default());
        site.at(1_000.0 + f64::from(sequence) * 10.0, talk.send(true, &from_outstation(report)));
    }
    let mut damaged = poll(4);
    damaged[8] ^= 1;
    site.at(1_100.0, talk.send(false, &damaged));
    site.at(1_200.0, talk.send(false, &poll(5)));
    site.wait_until(4_000.0);
    let second = period(&site);
    assert_eq!((second.requests, second.responses, second.unanswered), (Some(1), Some(0), Some(1)));
    assert_eq!((second.unsolicited, second.damaged_frames, second.response_ms_median), (Some(2), Some(1), None));
}
