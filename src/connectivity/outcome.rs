//! Many outcomes in few numbers and words.

use crate::{
    api::{EndpointResult, PingReport, PingState, RoundTrip, Verdict, VerdictCounts},
    probe::PingOutcome,
};

/// One report of all pings to an address.
pub fn ping_report(outcomes: &[PingOutcome], socket: Option<&str>) -> PingReport {
    let rtts_ms: Vec<f64> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            PingOutcome::Reply { rtt } => Some(rtt.as_secs_f64() * 1e3),
            _ => None,
        })
        .collect();
    let errors = outcomes.iter().filter(|outcome| matches!(outcome, PingOutcome::Error(_))).count();
    let state = match (rtts_ms.len(), errors) {
        (1.., _) => PingState::Answered,
        (0, errors) if errors == outcomes.len() => PingState::Error,
        _ => PingState::NoAnswer,
    };
    // What went wrong first says more than that a socket of some kind was used.
    let detail = outcomes
        .iter()
        .find_map(|outcome| match outcome {
            PingOutcome::Unreachable { from, icmp_type, icmp_code } => {
                Some(format!("{from} answered with ICMP type {icmp_type} code {icmp_code} in place of a reply"))
            }
            PingOutcome::Error(error) => Some(error.clone()),
            PingOutcome::Reply { .. } | PingOutcome::NoAnswer => None,
        })
        .or_else(|| socket.map(str::to_owned));
    PingReport {
        state,
        sent: u32::try_from(outcomes.len() - errors).unwrap_or(u32::MAX),
        received: u32::try_from(rtts_ms.len()).unwrap_or(u32::MAX),
        rtt_ms: round_trip(&rtts_ms),
        detail,
    }
}

fn round_trip(times_ms: &[f64]) -> Option<RoundTrip> {
    if times_ms.is_empty() {
        return None;
    }
    let rounded = |ms: f64| (ms * 1000.0).round() / 1000.0;
    Some(RoundTrip {
        min: rounded(times_ms.iter().copied().fold(f64::INFINITY, f64::min)),
        mean: rounded(times_ms.iter().sum::<f64>() / times_ms.len() as f64),
        max: rounded(times_ms.iter().copied().fold(0.0, f64::max)),
    })
}

/// How many endpoints got each verdict.
pub fn counts<'a>(results: impl IntoIterator<Item = &'a EndpointResult>) -> VerdictCounts {
    let mut counts = VerdictCounts::default();
    for result in results {
        counts.total += 1;
        match result.verdict {
            Verdict::Ok => counts.ok += 1,
            Verdict::Degraded => counts.degraded += 1,
            Verdict::Failed => counts.failed += 1,
            Verdict::Unknown => counts.unknown += 1,
            Verdict::Skipped => counts.skipped += 1,
        }
    }
    counts
}

/// The result of a test in one sentence.
pub fn sentence(counts: &VerdictCounts, complete: bool) -> String {
    let VerdictCounts { total, ok, degraded, failed, unknown, skipped } = *counts;
    let mut parts = Vec::new();
    for (number, word) in [(failed, "failed"), (degraded, "degraded"), (unknown, "unknown"), (skipped, "skipped")] {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    let text = match total {
        0 => "there was no endpoint to test".to_owned(),
        _ if parts.is_empty() => format!("all {total} endpoints ok"),
        _ => format!("{ok} of {total} endpoints ok, {}", parts.join(", ")),
    };
    if complete { text } else { format!("stopped before the end; until then {text}") }
}

/// Puts the worst first: failed, degraded, unknown, skipped, ok; within a verdict by id.
pub fn worst_first(results: &mut [EndpointResult]) {
    let rank = |verdict| match verdict {
        Verdict::Failed => 0,
        Verdict::Degraded => 1,
        Verdict::Unknown => 2,
        Verdict::Skipped => 3,
        Verdict::Ok => 4,
    };
    results.sort_by(|a, b| rank(a.verdict).cmp(&rank(b.verdict)).then_with(|| a.endpoint_id.cmp(&b.endpoint_id)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_ping_that_was_not_answered_has_no_round_trip() {
        let report = ping_report(&[PingOutcome::NoAnswer, PingOutcome::NoAnswer], Some("raw"));
        assert_eq!((report.state, report.sent, report.received, report.rtt_ms), (PingState::NoAnswer, 2, 0, None));
    }

    #[test]
    fn one_reply_is_an_answer_and_an_error_is_not_a_ping_sent() {
        let reply = PingOutcome::Reply { rtt: Duration::from_micros(1500) };
        let report = ping_report(&[PingOutcome::Error("no buffer".to_owned()), reply, PingOutcome::NoAnswer], Some("raw"));
        assert_eq!((report.state, report.sent, report.received), (PingState::Answered, 2, 1));
        assert_eq!(report.rtt_ms, Some(RoundTrip { min: 1.5, mean: 1.5, max: 1.5 }));
        assert_eq!(report.detail.as_deref(), Some("no buffer"));
        assert_eq!(ping_report(&[PingOutcome::Error("no right".to_owned())], None).state, PingState::Error);
    }

    #[test]
    fn the_sentence_names_what_is_not_ok() {
        let counts = VerdictCounts { total: 16, ok: 13, failed: 2, unknown: 1, ..VerdictCounts::default() };
        assert_eq!(sentence(&counts, true), "13 of 16 endpoints ok, 2 failed, 1 unknown");
        assert_eq!(sentence(&VerdictCounts { total: 3, ok: 3, ..VerdictCounts::default() }, true), "all 3 endpoints ok");
        assert!(sentence(&counts, false).starts_with("stopped before the end"));
        assert_eq!(sentence(&VerdictCounts::default(), true), "there was no endpoint to test");
    }
}
