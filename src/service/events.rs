//! What goes to the alarm log: one event for each change, none for what stays as it is.

use crate::api::{EndpointResult, Event, Health, Verdict, VerdictCounts};
use std::collections::BTreeMap;

/// Severities of the alarm log.
const INFO: u8 = 1;
const STATUS: u8 = 2;
const ALARM: u8 = 3;

/// So many endpoints may change in one test before they are told in one row.
const ROWS_MAX: usize = 20;

/// What is remembered of each endpoint between tests: whether it worked.
pub(super) type Memory = BTreeMap<String, bool>;

/// The events of a finished test, and the memory brought up to date.
pub(super) fn of_test(
    source: &str,
    memory: &mut Memory,
    results: &[EndpointResult],
    counts: &VerdictCounts,
    text: &str,
) -> Vec<Event> {
    let event = |message: String, severity| Event { source: source.to_owned(), message, severity };
    let mut changes = Vec::new();
    for result in results {
        let works = match result.verdict {
            Verdict::Ok | Verdict::Degraded => true,
            Verdict::Failed => false,
            // Nothing was seen, so nothing has changed.
            Verdict::Unknown | Verdict::Skipped => continue,
        };
        if memory.insert(result.endpoint_id.clone(), works).is_some_and(|worked| worked != works) {
            let what = if works { "works again" } else { "has failed" };
            let severity = if works { STATUS } else { ALARM };
            changes.push(event(format!("endpoint {} {what}: {}", result.endpoint_id, result.reason), severity));
        }
    }
    let surplus = changes.len().saturating_sub(ROWS_MAX);
    if surplus > 0 {
        changes.truncate(ROWS_MAX);
        changes.push(event(format!("{surplus} more endpoints have changed; the result of the test names them"), ALARM));
    }
    if counts.failed > 0 {
        changes.push(event(format!("connectivity test: {text}"), ALARM));
    }
    changes
}

/// The event of netdiag's own health having changed, if it has.
pub(super) fn of_health(source: &str, before: Health, after: Health, problems: &[String]) -> Option<Event> {
    let (message, severity) = match (before, after) {
        (Health::Ok, Health::Degraded) => (format!("netdiag is degraded: {}", problems.join("; ")), STATUS),
        (Health::Degraded, Health::Ok) => ("netdiag is well again".to_owned(), INFO),
        _ => return None,
    };
    Some(Event { source: source.to_owned(), message, severity })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ConnectReport, ConnectState, Direction, PingReport, Protocol, UtcTime};

    fn result(id: &str, verdict: Verdict) -> EndpointResult {
        EndpointResult {
            endpoint_id: id.to_owned(),
            protocol: Protocol::Modbus,
            direction: Direction::Outbound,
            name: None,
            address: None,
            port: None,
            unit_ids: Vec::new(),
            dnp3_addresses: Vec::new(),
            config_files: Vec::new(),
            interface: None,
            source_address: None,
            verdict,
            reason: "because".to_owned(),
            ping: PingReport::not_requested(None),
            connect: ConnectReport::not_made(ConnectState::NotRequested, None),
            kernel: None,
            wire: None,
            findings: Vec::new(),
            decided_at: UtcTime::from_unix_ns(0),
        }
    }

    fn severities(memory: &mut Memory, verdict: Verdict) -> Vec<u8> {
        let failed = u32::from(verdict == Verdict::Failed);
        let counts = VerdictCounts { total: 1, failed, ..VerdictCounts::default() };
        of_test("netdiag", memory, &[result("a", verdict)], &counts, "text").iter().map(|event| event.severity).collect()
    }

    #[test]
    fn only_a_change_is_an_event() {
        let mut memory = Memory::new();
        assert!(severities(&mut memory, Verdict::Ok).is_empty(), "the first look is no change");
        assert!(severities(&mut memory, Verdict::Degraded).is_empty());
        assert_eq!(severities(&mut memory, Verdict::Failed), [ALARM, ALARM], "the endpoint, and the test that ended with failures");
        assert_eq!(severities(&mut memory, Verdict::Failed), [ALARM], "the endpoint has not changed");
        assert!(severities(&mut memory, Verdict::Unknown).is_empty());
        assert_eq!(severities(&mut memory, Verdict::Ok), [STATUS]);
    }

    #[test]
    fn a_site_that_goes_dark_does_not_flood_the_log() {
        let mut memory: Memory = (0..500).map(|n| (n.to_string(), true)).collect();
        let results: Vec<_> = (0..500).map(|n| result(&n.to_string(), Verdict::Failed)).collect();
        let counts = VerdictCounts { total: 500, failed: 500, ..VerdictCounts::default() };
        let events = of_test("netdiag", &mut memory, &results, &counts, "0 of 500 endpoints ok, 500 failed");
        assert_eq!(events.len(), ROWS_MAX + 2);
        assert!(events[ROWS_MAX].message.starts_with("480 more"));
    }

    #[test]
    fn health_is_told_when_it_changes() {
        assert_eq!(of_health("netdiag", Health::Ok, Health::Ok, &[]), None);
        assert!(of_health("netdiag", Health::Ok, Health::Degraded, &["no right".to_owned()]).unwrap().message.contains("no right"));
        assert!(of_health("netdiag", Health::Degraded, Health::Ok, &[]).is_some());
    }
}
