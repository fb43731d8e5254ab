//! What happens in the time that two analyses share is told by one of them.

use super::{
    account::{DEVICES, OVERLAP_MS, SLOT_MS, SLOTS, What, frames, watches, what},
    *,
};
use crate::{analysis::Told, api::AnalysisReport};
use proptest::prelude::*;

/// The reports of snapshots that follow on one another, and the one of all packets.
fn reports(happens: &[(usize, u32, What)]) -> (Vec<AnalysisReport>, AnalysisReport) {
    let mut frames = frames(happens);
    // Time goes on, evenly: seams and time-outs do not wait for the next packet of somebody.
    frames.extend(
        (0..SLOTS * 20 + 100).map(|tick| (f64::from(tick) * 1_000.0 + 0.5, udp(socket("10.9.9.9:9"), socket("10.9.9.8:9"), &[]))),
    );
    frames.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (mut whole, mut open) = (Site::new(watches()), vec![(0, Site::new(watches()))]);
    let (mut reports, mut told) = (Vec::new(), Vec::new());
    let mut close = |number: u32, site: &mut Site| {
        site.analysis.finish();
        let report = site.analysis.report_after(&told);
        told = vec![Told::new(&number.to_string(), &report.findings)];
        reports.push(report);
    };
    for (at, frame) in &frames {
        let newest = open.last().unwrap().0;
        if *at >= f64::from(newest + 1) * SLOT_MS - OVERLAP_MS {
            open.push((newest + 1, Site::new(watches())));
        }
        while *at >= f64::from(open[0].0 + 1) * SLOT_MS {
            let (number, mut site) = open.remove(0);
            open.iter_mut().for_each(|(_, next)| next.analysis.mark_seam(&number.to_string(), 0));
            close(number, &mut site);
        }
        whole.at(*at, frame);
        for (_, site) in &mut open {
            site.at(*at, frame);
        }
    }
    open.iter_mut().for_each(|(number, site)| close(*number, site));
    whole.analysis.finish();
    (reports, whole.analysis.report())
}

/// How often this was told of an endpoint.
fn count(report: &AnalysisReport, code: &str, endpoint_id: &str) -> u64 {
    let of_it = report.findings.iter().filter(|found| found.code == code && found.endpoint_id.as_deref() == Some(endpoint_id));
    of_it.map(|found| found.count).sum()
}

fn counts(reports: &[AnalysisReport], code: &str) -> Vec<u64> {
    reports.iter().map(|report| count(report, code, "a")).collect()
}

/// At this millisecond the second snapshot begins, and the first one ends.
const BEGINS: u32 = (SLOT_MS - OVERLAP_MS) as u32;
const SEAM: u32 = SLOT_MS as u32;

#[test]
fn what_happens_in_the_overlap_makes_the_earlier_snapshot_suspect_and_not_the_later_one() {
    let talk = |what: What| {
        let answers = (0..SLOTS * 18).map(|second| (0, second * 1_000 + 10, What::Answer(5)));
        let mut happens: Vec<_> = answers.collect();
        happens.push((0, BEGINS + 2_510, what));
        reports(&happens).0
    };
    for (what, code) in
        [(What::Exception(5), "modbus.exceptions"), (What::Refused, "tcp.refused"), (What::Reconnect(false), "tcp.reset")]
    {
        let reports = talk(what);
        assert_eq!(counts(&reports, code)[..2], [1, 0], "{code}: {reports:#?}");
        let of_it = |report: &AnalysisReport| report.findings.iter().any(|found| found.severity > crate::api::Severity::Info);
        assert!(of_it(&reports[0]) && !of_it(&reports[1]), "{:#?}", reports[1]);
        let text = &reports[1].text;
        assert!(
            text.starts_with("nothing suspicious") && text.contains(" of the overlap ") && text.ends_with(" told by 0"),
            "{text}"
        );
        assert_eq!(reports[1].servers[0].worst.filter(|worst| *worst > crate::api::Severity::Info), None);
    }
}

#[test]
fn a_request_of_the_overlap_that_is_overdue_after_the_seam_is_told_by_the_later_one_only() {
    for (at, expected) in [(BEGINS + 500, [1, 0]), (SEAM - 1_000, [0, 1]), (SEAM + 100, [0, 1])] {
        let (reports, whole) = reports(&[(0, 100, What::Answer(5)), (0, at, What::Nothing), (0, SEAM + 9_000, What::Answer(5))]);
        assert_eq!(counts(&reports, "modbus.unanswered")[..2], expected, "{at}");
        assert_eq!(count(&whole, "modbus.unanswered", "a"), 1);
    }
}

#[test]
fn what_goes_on_is_told_by_both_and_counted_once() {
    let happens: Vec<_> = (0..30).map(|second| (0, second * 1_000 + 10, What::Exception(5))).collect();
    let (reports, _) = reports(&happens);
    assert_eq!(counts(&reports, "modbus.exceptions")[..2], [20, 10]);
    let message = &find(&reports[1].findings, "modbus.exceptions").message;
    assert!(message.ends_with("; 5 of them are told by the snapshot before"), "{message}");
    assert_eq!(reports[1].verdict, crate::api::AnalysisVerdict::Suspect);
}

/// Two ports of one host are asked every second; each is mute from one second to another. The earlier analysis has seconds 0 to 59, the later
/// one those from 30 on; gives what each tells of this code.
fn told_over_a_seam(code: &str, mute: [&[(u32, u32)]; 2]) -> [Option<crate::api::Finding>; 2] {
    let ports = ["10.0.0.5:502", "10.0.0.5:1502"].map(socket);
    let mut talks = ports.map(|port| Conversation::between(socket("10.0.0.1:40000"), port));
    let site = || Site::new(ports.iter().map(|port| outbound(&port.to_string(), Protocol::Modbus, &port.to_string())).collect());
    let (mut earlier, mut later, mut told) = (site(), site(), None);
    for second in 0..120 {
        if second == 60 {
            later.analysis.mark_seam("earlier", 0);
            earlier.analysis.finish();
            told = Some(earlier.analysis.report());
        }
        for (talk, mute) in talks.iter_mut().zip(mute) {
            let mut frames = if second == 0 { talk.handshake().to_vec() } else { Vec::new() };
            frames.push(talk.send(false, &[0, second as u8, 0, 0, 0, 6, 1, 3, 0, 100, 0, 1]));
            if !mute.iter().any(|(from, to)| (*from..*to).contains(&second)) {
                frames.push(talk.send(true, &[0, second as u8, 0, 0, 0, 5, 1, 3, 2, 0, 7]));
            }
            let ms = f64::from(second) * 1_000.0;
            if second >= 30 {
                later.all(ms, frames.clone());
            }
            if second < 60 {
                earlier.all(ms, frames);
            }
        }
    }
    later.analysis.finish();
    let told = told.unwrap();
    let own = later.analysis.report_after(&[Told::new("earlier", &told.findings)]);
    [told, own].map(|report| report.findings.into_iter().find(|found| found.code == code))
}

#[test]
fn a_silence_that_was_over_at_the_seam_is_told_once_and_not_counted_with_the_next_one() {
    let [earlier, later] = told_over_a_seam("host.silent", [&[(35, 48)], &[]]);
    assert_eq!((earlier.map(|silent| silent.count), later), (Some(1), None));
    // Whether the next one is longer or not, and whether another port was mute in one of them, too.
    for (of_first, of_second) in [
        (vec![(35, 48), (70, 83)], vec![]),
        (vec![(35, 48), (70, 90)], vec![]),
        (vec![(35, 48), (70, 90)], vec![(70, 90)]),
        (vec![(35, 48), (70, 90)], vec![(35, 48)]),
    ] {
        let [earlier, later] = told_over_a_seam("host.silent", [&of_first, &of_second]);
        let later = later.unwrap();
        assert_eq!((earlier.unwrap().count, later.count), (1, 1), "{of_second:?}: {}", later.message);
        assert!(later.message.contains("; it was silent for so long 1 time more"), "{}", later.message);
        assert!(later.message.contains("; 1 of them is told by the snapshot before"), "{}", later.message);
    }
}

#[test]
fn a_silence_over_the_seam_is_told_by_both_with_what_each_knows() {
    let [earlier, later] = told_over_a_seam("host.silent", [&[(45, 70)], &[]]).map(Option::unwrap);
    assert!(earlier.message.contains(" and has said nothing since, for "), "{}", earlier.message);
    assert!(later.message.contains(" said nothing from ") && !later.message.contains("told by"), "{}", later.message);
    assert_eq!(later.count, 1);
    // Another one behind it is new, the one that went on is not.
    let [earlier, later] = told_over_a_seam("host.silent", [&[(45, 65), (80, 110)], &[]]).map(Option::unwrap);
    assert_eq!((earlier.count, later.count), (1, 1), "{}", later.message);
    assert!(later.message.contains("; 1 of them is told by the snapshot before"), "{}", later.message);
    let [earlier, later] = told_over_a_seam("host.silent", [&[(45, 120)], &[]]).map(Option::unwrap);
    let seconds = [&earlier, &later].map(|silent| silent.message.split(" since, for ").nth(1).unwrap().to_owned());
    assert!(seconds[0].starts_with("15.0 s") && seconds[1].starts_with("75.0 s"), "{seconds:?}");
}

#[test]
fn a_stall_that_was_over_at_the_seam_is_told_once_and_one_over_the_seam_by_both() {
    let stalled = |mute: &[(u32, u32)]| told_over_a_seam("host.stalled", [mute, mute]);
    let [earlier, later] = stalled(&[(40, 46)]);
    assert_eq!(
        (earlier.map(|stall| stall.count), later),
        (Some(14), None),
        "two ports, and of each six requests in vain and the one that is answered"
    );
    let [earlier, later] = stalled(&[(40, 46), (70, 78)]).map(Option::unwrap);
    assert_eq!((earlier.count, later.count), (14, 18));
    assert!(later.message.ends_with("; 14 of them are told by the snapshot before"), "{}", later.message);
    let [earlier, later] = stalled(&[(54, 66)]).map(Option::unwrap);
    assert!(earlier.message.contains("not all of them have answered since, for "), "{}", earlier.message);
    assert!(later.message.contains(" at the same time, at ") && !later.message.contains("since, for"), "{}", later.message);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_is_told_once_and_nothing_is_lost(
        happens in prop::collection::vec((0..DEVICES.len(), 0..SLOTS * SLOT_MS as u32, what()), 1..120),
    ) {
        let (reports, whole) = reports(&happens);
        for (endpoint_id, _) in DEVICES {
            let sum = |code| reports.iter().map(|report| count(report, code, endpoint_id)).sum::<u64>();
            for code in ["tcp.refused", "tcp.reset", "modbus.exceptions"] {
                prop_assert_eq!(sum(code), count(&whole, code, endpoint_id), "{}", code);
            }
            // What was unanswered at a seam may be answered late: then both are told.
            let late = sum("modbus.late");
            let unanswered = count(&whole, "modbus.unanswered", endpoint_id);
            prop_assert!(sum("modbus.unanswered") <= unanswered + late && sum("modbus.unanswered") + late >= unanswered);
            prop_assert!(late >= count(&whole, "modbus.late", endpoint_id));
        }
    }
}
