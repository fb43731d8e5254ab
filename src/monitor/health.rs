//! How an endpoint was in a period: a plain function of what was seen, of what is expected, and of what was seen before.
//!
//! - Who is asked and answers nothing, or whom no connection reaches, has failed.
//! - What works slowly, with retries, exceptions or unanswered requests is degraded.
//! - Who says nothing and is not asked is silent, if it used to talk or is expected to; idle, if it is not its time yet.

use crate::api::{DegradedFrom, TrafficFigures, TrafficHealth};
use std::time::Duration;

/// Who is quiet for so many times as long as is usual is silent.
const USUAL_TIMES: u32 = 2;

/// What the configs let expect of an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    /// Whether something that runs here talks to it.
    pub in_use: bool,
    /// How often it is polled.
    pub poll: Option<Duration>,
    /// Responses that take this long or longer are slow.
    pub slow_response: Duration,
    /// How much of what goes wrong the site bears.
    pub degraded_from: DegradedFrom,
}

/// What is remembered of an endpoint from period to period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    has_talked: bool,
    /// For how long nothing has passed.
    quiet: Duration,
    /// The longest time that nothing had passed and then something did.
    longest_quiet: Duration,
}

impl Past {
    /// With one more period.
    #[must_use]
    pub fn and(self, figures: &TrafficFigures, period: Duration) -> Self {
        match figures.packets {
            0 => Self { quiet: self.quiet.saturating_add(period), ..self },
            _ => Self {
                has_talked: true,
                quiet: Duration::ZERO,
                longest_quiet: if self.has_talked { self.longest_quiet.max(self.quiet) } else { Duration::ZERO },
            },
        }
    }
}

/// How an endpoint was in a period, and why, in words. `past` holds this period already.
pub fn health(figures: &TrafficFigures, expected: &Expected, past: &Past) -> (TrafficHealth, String) {
    if figures.packets == 0 {
        return quiet(expected, past);
    }
    if let Some(why) = failed(figures) {
        return (TrafficHealth::Failed, why);
    }
    let worse = worse(figures, expected);
    if !worse.is_empty() {
        return (TrafficHealth::Degraded, worse.join(", and "));
    }
    match (figures.requests, figures.responses) {
        (_, Some(1..)) => (TrafficHealth::Ok, answered(figures)),
        (Some(1..), _) => {
            (TrafficHealth::Unknown, format!("{} may still be answered", times(figures.requests.unwrap_or(0), "request")))
        }
        _ if figures.unsolicited > Some(0) => {
            (TrafficHealth::Ok, format!("it sent {} by itself", times(figures.unsolicited.unwrap_or(0), "message")))
        }
        _ if figures.server_packets == 0 => (TrafficHealth::Unknown, "nothing came back yet".to_owned()),
        (Some(_), _) => (TrafficHealth::Idle, "there is a connection, and nothing is asked".to_owned()),
        _ => (TrafficHealth::Ok, format!("it sent {}", times(figures.server_packets, "packet"))),
    }
}

fn quiet(expected: &Expected, past: &Past) -> (TrafficHealth, String) {
    let usual = past.longest_quiet.max(expected.poll.unwrap_or_default());
    let quiet = seconds(past.quiet);
    if past.quiet <= usual.saturating_mul(USUAL_TIMES) {
        (TrafficHealth::Idle, format!("no packet for {quiet}; up to {} is usual", seconds(usual)))
    } else if past.has_talked {
        (TrafficHealth::Silent, format!("it used to talk, and there is no packet to or from it for {quiet}"))
    } else if expected.in_use {
        (TrafficHealth::Silent, format!("a config in use names it, and there is no packet to or from it for {quiet}"))
    } else {
        (TrafficHealth::Unknown, "no packet to or from it was seen".to_owned())
    }
}

/// Why nothing works, if nothing does.
fn failed(figures: &TrafficFigures) -> Option<String> {
    let (requests, unanswered) = (figures.requests.unwrap_or(0), figures.unanswered.unwrap_or(0));
    if figures.responses.unwrap_or(0) > 0 || figures.unsolicited.unwrap_or(0) > 0 {
        return None;
    }
    if unanswered > 0 {
        return Some(format!("none of {} was answered", times(requests.max(unanswered), "request")));
    }
    if figures.connects_failed > 0 && figures.connects_accepted == 0 {
        let refused = figures.connects_refused;
        let silent = figures.connects_failed.saturating_sub(refused);
        let how = match (refused, silent) {
            (_, 0) => "refused".to_owned(),
            (0, _) => "not answered".to_owned(),
            _ => format!("refused ({refused}) or not answered ({silent})"),
        };
        return Some(format!("{} {how}", were(figures.connects_failed, "connection attempt")));
    }
    let again = figures.connect_retries + figures.retransmissions;
    (figures.server_packets == 0 && again > 0).then(|| format!("nothing came back; {} sent again", were(again, "packet")))
}

/// What makes a working endpoint a degraded one.
fn worse(figures: &TrafficFigures, expected: &Expected) -> Vec<String> {
    let mut reasons = Vec::new();
    let count = |figure: Option<u64>| figure.unwrap_or(0);
    let responses = count(figures.responses);
    if count(figures.unanswered) > 0 {
        let late = match count(figures.late) {
            0 => String::new(),
            late => format!(" ({late} answered late)"),
        };
        let requests = times(count(figures.requests).max(count(figures.unanswered)), "request");
        reasons.push(format!("{} of {requests} had no response in time{late}", count(figures.unanswered)));
    }
    let exceptions = count(figures.exceptions);
    if expected.degraded_from.too_many_exceptions(exceptions, responses) {
        reasons.push(format!("{exceptions} of {} exceptions", are(responses.max(exceptions), "response")));
    }
    let slow = count(figures.slow);
    if expected.degraded_from.too_many_slow(slow, responses) {
        let limit = expected.slow_response.as_millis();
        reasons.push(format!("{slow} of {} took {limit} ms or longer", times(responses, "response")));
    }
    if expected.degraded_from.too_many_retransmissions(figures.retransmissions, figures.packets) {
        reasons.push(format!("{} had to be sent again", times(figures.retransmissions, "segment")));
    }
    if count(figures.damaged_frames) > 0 {
        reasons.push(format!("{} damaged", were(count(figures.damaged_frames), "frame")));
    }
    if figures.resets > 0 {
        reasons.push(format!("{} reset", were(figures.resets, "open connection")));
    }
    if figures.connects_failed > 0 {
        reasons.push(format!("{} did not come about", times(figures.connects_failed, "connection")));
    }
    reasons
}

fn answered(figures: &TrafficFigures) -> String {
    let responses = times(figures.responses.unwrap_or(0), "response");
    match figures.response_ms_median {
        Some(median) => format!("{responses}, half of them within {median} ms"),
        None => responses,
    }
}

fn times(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn were(count: u64, what: &str) -> String {
    format!("{} {}", times(count, what), if count == 1 { "was" } else { "were" })
}

fn are(count: u64, what: &str) -> String {
    format!("{} {}", times(count, what), if count == 1 { "is" } else { "are" })
}

fn seconds(duration: Duration) -> String {
    format!("{} s", (duration.as_secs_f64() * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A minute of polls that are all answered.
    fn fine() -> TrafficFigures {
        TrafficFigures {
            packets: 240,
            server_packets: 120,
            requests: Some(60),
            responses: Some(60),
            unanswered: Some(0),
            late: Some(0),
            slow: Some(0),
            exceptions: Some(0),
            response_ms_median: Some(2.5),
            ..TrafficFigures::default()
        }
    }

    fn nothing() -> TrafficFigures {
        TrafficFigures { requests: Some(0), responses: Some(0), unanswered: Some(0), ..TrafficFigures::default() }
    }

    fn expected() -> Expected {
        Expected { slow_response: Duration::from_secs(1), ..Expected::default() }
    }

    fn judged(figures: TrafficFigures) -> (TrafficHealth, String) {
        health(&figures, &expected(), &Past::default().and(&figures, MINUTE))
    }

    #[test]
    fn what_works_is_ok_and_what_works_badly_is_degraded_with_the_reason() {
        assert_eq!(judged(fine()), (TrafficHealth::Ok, "60 responses, half of them within 2.5 ms".into()));
        let cases = [
            (TrafficFigures { exceptions: Some(6), ..fine() }, "6 of 60 responses are exceptions"),
            (TrafficFigures { unanswered: Some(1), ..fine() }, "1 of 60 requests had no response in time"),
            (TrafficFigures { unanswered: Some(2), late: Some(1), ..fine() }, "(1 answered late)"),
            (TrafficFigures { slow: Some(3), ..fine() }, "3 of 60 responses took 1000 ms or longer"),
            (TrafficFigures { retransmissions: 5, ..fine() }, "5 segments had to be sent again"),
            (TrafficFigures { resets: 1, ..fine() }, "1 open connection was reset"),
            (TrafficFigures { connects: 2, connects_failed: 2, ..fine() }, "2 connections did not come about"),
            (TrafficFigures { damaged_frames: Some(2), ..fine() }, "2 frames were damaged"),
        ];
        for (figures, why) in cases {
            let (health, text) = judged(figures);
            assert_eq!(health, TrafficHealth::Degraded, "{text}");
            assert!(text.contains(why), "`{text}` does not say `{why}`");
        }
        for little in [
            TrafficFigures { exceptions: Some(5), ..fine() },
            TrafficFigures { slow: Some(2), ..fine() },
            TrafficFigures { retransmissions: 4, ..fine() },
        ] {
            assert_eq!(judged(little).0, TrafficHealth::Ok, "{little:?}");
        }
        let lenient = DegradedFrom { exceptions_one_in: 5, slow_one_in: 5, retransmissions_min: 9, retransmissions_one_in: 50 };
        for bearable in [
            TrafficFigures { exceptions: Some(11), ..fine() },
            TrafficFigures { slow: Some(11), ..fine() },
            TrafficFigures { retransmissions: 8, ..fine() },
        ] {
            assert_eq!(judged(bearable).0, TrafficHealth::Degraded, "{bearable:?}");
            let expected = Expected { degraded_from: lenient, ..expected() };
            assert_eq!(health(&bearable, &expected, &Past::default()).0, TrafficHealth::Ok, "{bearable:?}");
        }
    }

    #[test]
    fn who_is_asked_and_does_not_answer_has_failed() {
        let dead = TrafficFigures { packets: 60, server_packets: 0, responses: Some(0), unanswered: Some(58), ..fine() };
        assert_eq!(judged(dead), (TrafficHealth::Failed, "none of 60 requests was answered".into()));
        // It stopped in the period before; now it is not even asked any more.
        let over = TrafficFigures { packets: 1, unanswered: Some(1), ..nothing() };
        assert_eq!(judged(over), (TrafficHealth::Failed, "none of 1 request was answered".into()));
        let waits = TrafficFigures { packets: 3, server_packets: 1, requests: Some(2), ..nothing() };
        assert_eq!(judged(waits), (TrafficHealth::Unknown, "2 requests may still be answered".into()));
        let refused =
            TrafficFigures { packets: 6, server_packets: 3, connects: 3, connects_refused: 3, connects_failed: 3, ..nothing() };
        assert_eq!(judged(refused), (TrafficHealth::Failed, "3 connection attempts were refused".into()));
        let dropped = TrafficFigures { packets: 3, connects: 1, connects_failed: 1, connect_retries: 2, ..nothing() };
        assert_eq!(judged(dropped), (TrafficHealth::Failed, "1 connection attempt was not answered".into()));
        let goes_on = TrafficFigures { packets: 1, connect_retries: 1, ..nothing() };
        assert_eq!(judged(goes_on), (TrafficHealth::Failed, "nothing came back; 1 packet was sent again".into()));
    }

    #[test]
    fn without_a_request_there_may_still_be_life() {
        let open = TrafficFigures { packets: 4, server_packets: 2, ..nothing() };
        assert_eq!(judged(open).0, TrafficHealth::Idle);
        let reports = TrafficFigures { unsolicited: Some(2), ..open };
        assert_eq!(judged(reports), (TrafficHealth::Ok, "it sent 2 messages by itself".into()));
        let shell = TrafficFigures { packets: 9, server_packets: 4, ..TrafficFigures::default() };
        assert_eq!(judged(shell), (TrafficHealth::Ok, "it sent 4 packets".into()));
        let asked = TrafficFigures { packets: 1, connects: 1, ..TrafficFigures::default() };
        assert_eq!(judged(asked).0, TrafficHealth::Unknown);
    }

    #[test]
    fn silence_is_what_is_longer_than_usual() {
        let mut past = Past::default();
        let mut next = |figures: TrafficFigures, expected: Expected| {
            past = past.and(&figures, MINUTE);
            health(&figures, &expected, &past).0
        };
        assert_eq!(next(nothing(), expected()), TrafficHealth::Unknown);
        assert_eq!(next(nothing(), Expected { in_use: true, ..expected() }), TrafficHealth::Silent);
        assert_eq!(next(fine(), expected()), TrafficHealth::Ok);
        assert_eq!(next(nothing(), expected()), TrafficHealth::Silent);
        assert_eq!(next(nothing(), Expected { poll: Some(MINUTE), ..expected() }), TrafficHealth::Idle);
        assert_eq!(next(nothing(), Expected { poll: Some(MINUTE), ..expected() }), TrafficHealth::Silent);
        // It has been quiet for three minutes and talked again: that is its way.
        assert_eq!(next(fine(), expected()), TrafficHealth::Ok);
        let healths: Vec<_> = (0..7).map(|_| next(nothing(), expected())).collect();
        assert_eq!(healths, [[TrafficHealth::Idle; 6].as_slice(), &[TrafficHealth::Silent]].concat());
    }

    proptest! {
        #[test]
        fn whatever_was_seen_there_is_a_reason_and_a_response_means_life(
            counts in prop::array::uniform14(prop_oneof![Just(0_u64), 1..5_u64, Just(u64::MAX / 64)]), asks: bool, in_use: bool,
        ) {
            let [packets, server_packets, connects, accepted, refused, failed, retries, resets, again, requests, responses, unanswered, slow, exceptions] = counts;
            let asked = |count| asks.then_some(count);
            let figures = TrafficFigures {
                packets, server_packets, connects, connects_accepted: accepted, connects_refused: refused, connects_failed: failed,
                connect_retries: retries, resets, retransmissions: again, requests: asked(requests), responses: asked(responses),
                unanswered: asked(unanswered), slow: asked(slow), exceptions: asked(exceptions), ..TrafficFigures::default()
            };
            let (health, why) = health(&figures, &Expected { in_use, ..expected() }, &Past::default().and(&figures, MINUTE));
            prop_assert!(!why.is_empty() && !why.contains("NaN"));
            if asks && responses > 0 && packets > 0 {
                prop_assert!(matches!(health, TrafficHealth::Ok | TrafficHealth::Degraded), "{:?}: {}", health, why);
            }
            prop_assert_eq!(matches!(health, TrafficHealth::Silent), packets == 0 && in_use);
        }
    }
}
