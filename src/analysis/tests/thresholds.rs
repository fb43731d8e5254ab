//! Each threshold that a site can set: what is found on the one side of it is not on the other.

use super::*;
use crate::{
    analysis::Expectation,
    api::{AnalysisReport, Severity},
};
use std::time::Duration;

const QUESTION: &[u8] = &[0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1];
const ANSWER: &[u8] = &[0, 1, 0, 0, 0, 5, 1, 3, 2, 0, 9];
const MINUTE: Duration = Duration::from_secs(60);

fn usual() -> AnalysisSettings {
    AnalysisSettings { modbus_ports: vec![502, 1502], ..AnalysisSettings::default() }
}

/// What a first look at this traffic finds.
fn seen(settings: AnalysisSettings, traffic: impl Fn(&mut Site)) -> AnalysisReport {
    let mut site = Site::with(settings, vec![outbound(ID, Protocol::Modbus, DEVICE)]);
    traffic(&mut site);
    site.analysis.finish();
    site.analysis.report()
}

fn severity(report: &AnalysisReport, code: &str) -> Option<Severity> {
    report.findings.iter().find(|finding| finding.code == code).map(|finding| finding.severity)
}

fn opened(site: &mut Site, ms: f64, client: &str, server: &str) -> Conversation {
    let mut talk = Conversation::new(client, server);
    site.all(ms, talk.handshake());
    talk
}

#[test]
fn segments_sent_again_matter_by_their_number_and_by_their_share() {
    // Four, besides 200 with payload.
    let traffic = |site: &mut Site| {
        let mut talk = opened(site, 0.0, CLIENT, DEVICE);
        for round in 0..100 {
            let (ms, question) = (1000.0 * f64::from(round + 1), talk.send(false, QUESTION));
            site.at(ms, &question);
            if round % 25 == 0 {
                site.at(ms + 300.0, question);
            }
            site.at(ms + 400.0, talk.send(true, ANSWER));
        }
    };
    let judged = |min, one_in| {
        let report = seen(AnalysisSettings { retransmissions_min: min, retransmissions_one_in: one_in, ..usual() }, traffic);
        assert_eq!(report.servers[0].tcp.retransmissions, 4);
        severity(&report, "tcp.retransmissions")
    };
    assert_eq!(judged(3, 100), Some(Severity::Warning));
    assert_eq!((judged(4, 50), judged(5, 50)), (Some(Severity::Warning), Some(Severity::Info)));
    assert_eq!(judged(3, 49), Some(Severity::Info), "four in 200 are less than one in 49");
}

#[test]
fn reconnects_matter_from_a_number_on() {
    let traffic = |site: &mut Site| {
        for round in 0..4 {
            let mut talk = opened(site, 10_000.0 * f64::from(round), &format!("10.0.0.1:{}", 40_000 + round), DEVICE);
            site.at(10_000.0 * f64::from(round) + 3000.0, talk.send(false, QUESTION));
            site.at(10_000.0 * f64::from(round) + 3001.0, talk.rst(true));
        }
    };
    let judged = |min| severity(&seen(AnalysisSettings { reconnects_min: min, ..usual() }, traffic), "tcp.reconnects");
    assert_eq!((judged(3), judged(4)), (Some(Severity::Warning), Some(Severity::Info)));
}

#[test]
fn an_attempt_is_waited_for_as_long_as_the_site_says() {
    let traffic = |site: &mut Site| {
        site.at(0.0, Conversation::new(CLIENT, DEVICE).syn());
        site.at(0.0, arp(1, [2; 6], [10, 0, 0, 1].into(), [10, 0, 0, 77].into()));
        site.wait_until(700.0);
    };
    let found = |ms| {
        let report = seen(AnalysisSettings { attempt_timeout: Duration::from_millis(ms), ..usual() }, traffic);
        (severity(&report, "tcp.syn_unanswered").is_some(), severity(&report, "arp.unanswered").is_some())
    };
    assert_eq!((found(600), found(800)), ((true, true), (false, false)));
}

#[test]
fn an_endpoint_is_missing_after_the_time_that_the_site_says() {
    let judged = |after| {
        let settings = AnalysisSettings { never_seen_after: after, ..usual() };
        let mut site = Site::with(settings.clone(), Vec::new());
        site.analysis = Analysis::new(settings, vec![outbound(ID, Protocol::Modbus, DEVICE)], Vec::new())
            .with_expectations(vec![Expectation { endpoint_id: ID.into(), ..Expectation::default() }]);
        site.wait_until(0.0);
        site.wait_until(90_000.0);
        severity(&site.analysis.report(), "site.never_seen")
    };
    assert_eq!((judged(MINUTE), judged(2 * MINUTE)), (Some(Severity::Warning), Some(Severity::Info)));
}

#[test]
fn what_follows_a_stall_belongs_to_it_for_as_long_as_the_site_says() {
    let traffic = |site: &mut Site| {
        let mut talks = [opened(site, 0.0, CLIENT, DEVICE), opened(site, 0.0, "10.0.0.1:41000", "10.0.0.5:1502")];
        for second in 1..60 {
            for talk in &mut talks {
                let ms = 1000.0 * f64::from(second);
                site.at(ms, talk.send(false, QUESTION));
                if !(10..14).contains(&second) {
                    site.at(ms + 1.0, talk.send(true, ANSWER));
                }
            }
        }
        // Half a minute after the stall.
        site.at(45_000.0, talks[0].rst(true));
    };
    let judged = |aftermath| {
        let report = seen(AnalysisSettings { stall_aftermath: Duration::from_secs(aftermath), ..usual() }, traffic);
        assert_eq!(severity(&report, "host.stalled"), Some(Severity::Alarm));
        severity(&report, "tcp.reset")
    };
    assert_eq!((judged(60), judged(20)), (Some(Severity::Info), Some(Severity::Warning)));
}

#[test]
fn a_packet_is_a_copy_for_as_long_as_the_site_says() {
    // With a number in IPv4's header or without one, and the same once more, a while later.
    let copies = |number: u16, apart_ms: f64, settings| {
        let report = seen(settings, |site| {
            let mut talk = opened(site, 0.0, CLIENT, DEVICE);
            let mut frame = talk.send(false, QUESTION);
            frame[18..20].copy_from_slice(&number.to_be_bytes());
            site.at(10.0, &frame);
            site.at(10.0 + apart_ms, frame);
        });
        (severity(&report, "capture.copies").is_some(), report.servers[0].tcp.retransmissions)
    };
    let (copy, again) = ((true, 0), (false, 1));
    assert_eq!((copies(7, 50.0, usual()), copies(7, 150.0, usual()), copies(0, 0.05, usual())), (copy, again, copy));
    let strict = AnalysisSettings { copy_window: Duration::ZERO, numbered_copy_window: Duration::from_millis(20), ..usual() };
    assert_eq!((copies(7, 50.0, strict.clone()), copies(0, 0.05, strict)), (again, again));
    let lenient = AnalysisSettings { copy_window: Duration::from_millis(1), ..usual() };
    assert_eq!(copies(0, 0.5, lenient), copy);
}

#[test]
fn what_is_missing_is_waited_for_as_long_as_the_site_says() {
    let judged = |patience_ms| {
        let mut site = Site::with(AnalysisSettings { gap_patience: Duration::from_millis(patience_ms), ..usual() }, Vec::new());
        let mut talk = opened(&mut site, 0.0, CLIENT, DEVICE);
        site.at(5.0, talk.send(false, QUESTION));
        talk.send(true, ANSWER);
        site.at(10.0, talk.send(true, ANSWER));
        site.at(11.0, talk.ack(false));
        site.at(311.0, talk.ack(false));
        severity(&site.analysis.report(), "capture.lost_segments").is_some()
    };
    assert_eq!((judged(200), judged(400)), (true, false));
}
