//! What goes to the alarm log: one event for each change, none for what stays as it is.

use crate::api::{ConnectState, EndpointResult, Event, Health, Verdict, VerdictCounts};
use std::collections::{BTreeMap, HashSet};

/// So many endpoints may change in one test before they are told in one row.
const ROWS_MAX: usize = 20;

/// So many endpoints are remembered that are in the configs no more; they may come back.
const FORMER_MAX: usize = 1000;

/// What is remembered of each endpoint between tests: whether it worked.
pub(super) type Memory = BTreeMap<String, bool>;

/// The events of a finished test, and the memory brought up to date. Only what is `known`, the endpoints of the configs and of the
/// settings, is remembered: what a single request named besides is nobody's alarm.
pub(super) fn of_test(
    source: &str,
    memory: &mut Memory,
    known: &HashSet<&str>,
    results: &[EndpointResult],
    counts: &VerdictCounts,
    text: &str,
) -> Vec<Event> {
    let event = |message: String, severity| Event { source: source.to_owned(), message, severity };
    let mut changes = Vec::new();
    for result in results.iter().filter(|result| known.contains(result.endpoint_id.as_str()) && was_looked_at(result)) {
        let works = match result.verdict {
            Verdict::Ok | Verdict::Degraded => true,
            Verdict::Failed => false,
            // Nothing was seen, so nothing has changed.
            Verdict::Unknown | Verdict::Skipped => continue,
        };
        if memory.insert(result.endpoint_id.clone(), works).is_some_and(|worked| worked != works) {
            let what = if works { "works again" } else { "has failed" };
            let severity = if works { Event::STATUS } else { Event::ALARM };
            changes.push(event(format!("endpoint {} {what}: {}", result.endpoint_id, result.reason), severity));
        }
    }
    if memory.len() > known.len() + FORMER_MAX {
        memory.retain(|endpoint_id, _| known.contains(endpoint_id.as_str()));
    }
    let surplus = changes.len().saturating_sub(ROWS_MAX);
    if surplus > 0 {
        changes.truncate(ROWS_MAX);
        changes.push(event(format!("{surplus} more endpoints have changed; the result of the test names them"), Event::ALARM));
    }
    if counts.failed > 0 {
        changes.push(event(format!("connectivity test: {text}"), Event::ALARM));
    }
    changes
}

/// Whether the verdict is about the endpoint's port, and not only about its host: a ping tells nothing of a port.
fn was_looked_at(result: &EndpointResult) -> bool {
    let sessions = result.kernel.as_ref().is_some_and(|kernel| kernel.established > 0);
    let talk = result.wire.as_ref().is_some_and(|wire| wire.syn > 0 || wire.modbus.is_some() || wire.dnp3.is_some());
    result.connect.state != ConnectState::NotRequested || sessions || talk
}

/// The event of netdiag's own health having changed, if it has.
pub(super) fn of_health(source: &str, before: Health, after: Health, problems: &[String]) -> Option<Event> {
    let (message, severity) = match (before, after) {
        (Health::Ok, Health::Degraded) => (format!("netdiag is degraded: {}", problems.join("; ")), Event::STATUS),
        (Health::Degraded, Health::Ok) => ("netdiag is well again".to_owned(), Event::INFO),
        _ => return None,
    };
    Some(Event { source: source.to_owned(), message, severity })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ConnectReport, Direction, KernelView, PingReport, Protocol, UtcTime};

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
            connect: ConnectReport::not_made(ConnectState::Open, None),
            kernel: None,
            wire: None,
            findings: Vec::new(),
            decided_at: UtcTime::from_unix_ns(0),
        }
    }

    fn severities(memory: &mut Memory, verdict: Verdict) -> Vec<u8> {
        let failed = u32::from(verdict == Verdict::Failed);
        let counts = VerdictCounts { total: 1, failed, ..VerdictCounts::default() };
        let known = HashSet::from(["a"]);
        of_test("netdiag", memory, &known, &[result("a", verdict)], &counts, "text").iter().map(|event| event.severity).collect()
    }

    #[test]
    fn only_a_change_is_an_event() {
        let mut memory = Memory::new();
        assert!(severities(&mut memory, Verdict::Ok).is_empty(), "the first look is no change");
        assert!(severities(&mut memory, Verdict::Degraded).is_empty());
        assert_eq!(
            severities(&mut memory, Verdict::Failed),
            [Event::ALARM, Event::ALARM],
            "the endpoint, and the test that ended with failures"
        );
        assert_eq!(severities(&mut memory, Verdict::Failed), [Event::ALARM], "the endpoint has not changed");
        assert!(severities(&mut memory, Verdict::Unknown).is_empty());
        assert_eq!(severities(&mut memory, Verdict::Ok), [Event::STATUS]);
    }

    #[test]
    fn a_site_that_goes_dark_does_not_flood_the_log() {
        let mut memory: Memory = (0..500).map(|n| (n.to_string(), true)).collect();
        let results: Vec<_> = (0..500).map(|n| result(&n.to_string(), Verdict::Failed)).collect();
        let counts = VerdictCounts { total: 500, failed: 500, ..VerdictCounts::default() };
        let known = results.iter().map(|result| result.endpoint_id.as_str()).collect();
        let events = of_test("netdiag", &mut memory, &known, &results, &counts, "0 of 500 endpoints ok, 500 failed");
        assert_eq!(events.len(), ROWS_MAX + 2);
        assert!(events[ROWS_MAX].message.starts_with("480 more"));
    }

    #[test]
    fn a_ping_alone_brings_no_port_back() {
        let mut memory = Memory::from([("a".to_owned(), false)]);
        let (known, counts) = (HashSet::from(["a"]), VerdictCounts::default());
        let mut pinged = result("a", Verdict::Ok);
        pinged.connect.state = ConnectState::NotRequested;
        assert!(of_test("netdiag", &mut memory, &known, &[pinged.clone()], &counts, "text").is_empty());
        assert!(!memory["a"]);
        pinged.kernel = Some(KernelView { established: 1, ..KernelView::default() });
        assert_eq!(of_test("netdiag", &mut memory, &known, &[pinged], &counts, "text").len(), 1, "a live session does");
    }

    #[test]
    fn what_only_requests_named_is_not_remembered_and_the_memory_is_bounded() {
        let mut memory: Memory = (0..FORMER_MAX).map(|n| (format!("former {n}"), true)).collect();
        let (known, counts) = (HashSet::from(["a"]), VerdictCounts::default());
        let results = [result("a", Verdict::Ok), result("extra", Verdict::Failed)];
        of_test("netdiag", &mut memory, &known, &results, &counts, "text");
        assert_eq!((memory.len(), memory.contains_key("extra")), (FORMER_MAX + 1, false));
        memory.insert("one more".to_owned(), true);
        of_test("netdiag", &mut memory, &known, &results, &counts, "text");
        assert_eq!(memory, Memory::from([("a".to_owned(), true)]));
    }

    #[test]
    fn health_is_told_when_it_changes() {
        assert_eq!(of_health("netdiag", Health::Ok, Health::Ok, &[]), None);
        assert!(of_health("netdiag", Health::Ok, Health::Degraded, &["no right".to_owned()]).unwrap().message.contains("no right"));
        assert!(of_health("netdiag", Health::Degraded, Health::Ok, &[]).is_some());
    }
}
