//! Whether a snapshot is suspect, and whether it is kept: plain functions of its findings and of what was kept before.

use crate::api::{AnalysisVerdict, Finding, Severity};
use std::{collections::BTreeMap, time::Duration};

/// A finding that is not seen for so long, and for as long as two snapshots, has gone.
const GONE: Duration = Duration::from_secs(60);
/// So many findings that stay are remembered; what was seen longest ago is forgotten first.
const MAX_REMEMBERED: usize = 4096;

/// Findings that are meant: to be overlooked, or to trigger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindingPattern {
    /// The code; one that ends in `*` is the beginning of codes.
    pub code: String,
    /// Only at this endpoint.
    pub endpoint_id: Option<String>,
}

impl FindingPattern {
    /// Whether it means this finding.
    pub fn matches(&self, finding: &Finding) -> bool {
        let code = match self.code.strip_suffix('*') {
            Some(beginning) => finding.code.starts_with(beginning),
            None => finding.code == self.code,
        };
        code && self.endpoint_id.as_ref().is_none_or(|endpoint_id| finding.endpoint_id.as_ref() == Some(endpoint_id))
    }
}

/// The findings that make a snapshot suspect: of at least this severity, and not to be overlooked. None: it is clean.
pub fn suspicious<'a>(findings: &'a [Finding], at_least: Severity, ignore: &[FindingPattern]) -> Vec<&'a Finding> {
    let matters = |finding: &&Finding| finding.severity >= at_least && !ignore.iter().any(|ignore| ignore.matches(finding));
    findings.iter().filter(matters).collect()
}

/// What a finding is, wherever and whenever it is seen: its code, and what it is about.
type Key = (String, String);

fn key(finding: &Finding) -> Key {
    (finding.code.clone(), finding.about())
}

/// How long a finding is not seen until it has gone, where a snapshot lasts so long.
pub fn gone_after(snapshot: Duration) -> Duration {
    snapshot * 2 + GONE
}

/// What is to be done with a suspect snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Something is in it that was not there before: archive it and say so.
    New,
    /// Nothing new, but the latest of its kind was archived long ago: archive it.
    Again,
    /// Nothing new, and one was archived not long ago.
    Known,
}

/// What was made of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it is suspect.
    pub verdict: AnalysisVerdict,
    /// The verdict in one sentence.
    pub text: String,
    /// The suspect snapshot that it is archived as a neighbour of.
    pub neighbour_of: Option<String>,
    /// It goes into the archive.
    pub archived: bool,
    /// And that not only as a neighbour.
    pub for_itself: bool,
}

/// The findings that stay.
#[derive(Debug, Clone, Default)]
pub struct Recurrence {
    seen: BTreeMap<Key, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    last: Duration,
    archived: Duration,
}

impl Recurrence {
    /// Takes the suspicious findings of the next snapshot, closed at `now` (on a clock that is never set), and tells what is to be
    /// done with it. A finding that was not there for `gone_after` is new when it is there again.
    pub fn take(&mut self, findings: &[&Finding], now: Duration, repeat: Duration, gone_after: Duration) -> Keep {
        self.seen.retain(|_, seen| now.saturating_sub(seen.last) < gone_after);
        let keys: Vec<Key> = findings.iter().map(|finding| key(finding)).collect();
        let keep = if keys.iter().any(|key| !self.seen.contains_key(key)) {
            Keep::New
        } else if keys.iter().filter_map(|key| self.seen.get(key)).any(|seen| now.saturating_sub(seen.archived) >= repeat) {
            Keep::Again
        } else {
            Keep::Known
        };
        for key in keys {
            let archived = match self.seen.get(&key) {
                Some(seen) if keep == Keep::Known => seen.archived,
                _ => now,
            };
            self.seen.insert(key, Seen { last: now, archived });
        }
        self.forget_what_is_too_much();
        keep
    }

    /// Whether this finding was there not long before `now`.
    pub fn knows(&self, finding: &Finding, now: Duration, gone_after: Duration) -> bool {
        self.seen.get(&key(finding)).is_some_and(|seen| now.saturating_sub(seen.last) < gone_after)
    }

    /// Takes the suspicious findings of a snapshot that was closed before a restart, oldest first: when, and whether it was archived for
    /// its own sake.
    pub fn recall(&mut self, findings: &[&Finding], at: Duration, was_archived: bool) {
        for finding in findings {
            let seen = self.seen.entry(key(finding)).or_insert(Seen { last: at, archived: at });
            seen.last = at;
            if was_archived {
                seen.archived = at;
            }
        }
        self.forget_what_is_too_much();
    }

    /// Goes on at `now` after a restart; the last snapshot before it was closed at `closed`. What stayed until then has not gone because
    /// nobody looked meanwhile.
    pub fn resume(&mut self, closed: Duration, now: Duration, gone_after: Duration) {
        self.seen.retain(|_, seen| closed.saturating_sub(seen.last) < gone_after);
        self.seen.values_mut().for_each(|seen| seen.last = now);
    }

    fn forget_what_is_too_much(&mut self) {
        while self.seen.len() > MAX_REMEMBERED {
            let oldest = self.seen.iter().min_by_key(|(_, seen)| seen.last).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.seen.remove(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn finding(code: &str, severity: Severity, endpoint_id: Option<&str>) -> Finding {
        Finding {
            code: code.into(),
            severity,
            count: 3,
            first_at: None,
            last_at: None,
            endpoint_id: endpoint_id.map(Into::into),
            message: "3 requests to 10.0.0.1:502 were not answered".into(),
            packets: vec![1],
        }
    }

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    #[test]
    fn severity_and_the_ignore_list_decide() {
        let findings = [
            finding("tcp.retransmission", Severity::Info, None),
            finding("modbus.exception", Severity::Warning, Some("a")),
            finding("modbus.unanswered", Severity::Alarm, Some("b")),
        ];
        let codes = |at_least, ignore: &[FindingPattern]| -> Vec<String> {
            suspicious(&findings, at_least, ignore).iter().map(|finding| finding.code.clone()).collect()
        };
        let ignore =
            |code: &str, endpoint_id: Option<&str>| FindingPattern { code: code.into(), endpoint_id: endpoint_id.map(Into::into) };
        assert_eq!(codes(Severity::Warning, &[]), ["modbus.exception", "modbus.unanswered"]);
        assert_eq!(codes(Severity::Alarm, &[]), ["modbus.unanswered"]);
        assert_eq!(codes(Severity::Warning, &[ignore("modbus.*", Some("b"))]), ["modbus.exception"]);
        assert_eq!(codes(Severity::Warning, &[ignore("modbus.exception", None)]), ["modbus.unanswered"]);
        assert!(codes(Severity::Info, &[ignore("*", None)]).is_empty());
        assert_eq!(codes(Severity::Alarm, &[ignore("modbus.unanswered", Some("a"))]), ["modbus.unanswered"]);
    }

    #[test]
    fn a_dead_device_archives_once_and_then_once_a_period() {
        let dead = finding("modbus.unanswered", Severity::Alarm, Some("a"));
        let mut recurrence = Recurrence::default();
        let mut kept = Vec::new();
        for number in 0..300 {
            let keep = recurrence.take(&[&dead], minutes(5 * number), minutes(360), minutes(11));
            if keep != Keep::Known {
                kept.push((5 * number, keep));
            }
        }
        let expected: Vec<_> = (0..5).map(|n| (360 * n, if n == 0 { Keep::New } else { Keep::Again })).collect();
        assert_eq!(kept, expected);
    }

    #[test]
    fn what_stayed_before_a_restart_is_known_after_it() {
        let (dead, other) = (finding("x", Severity::Alarm, Some("a")), finding("x", Severity::Alarm, Some("b")));
        let restarted = || {
            let mut recurrence = Recurrence::default();
            // Archived when it was new; those of the last hour are still there, those between are not.
            recurrence.recall(&[&dead, &other], minutes(0), true);
            (0..12).for_each(|number| recurrence.recall(&[&dead], minutes(240 + 5 * number), false));
            recurrence.resume(minutes(295), minutes(330), minutes(11));
            recurrence
        };
        let take = |findings: &[&Finding], at| restarted().take(findings, minutes(at), minutes(360), minutes(11));
        assert_eq!(take(&[&dead], 335), Keep::Known, "half an hour without netdiag is not the end of it");
        assert_eq!(take(&[&other], 335), Keep::New, "that had gone before");
        assert_eq!(take(&[&dead], 345), Keep::New, "and this is gone when nothing is seen of it");
        let mut recurrence = restarted();
        recurrence.take(&[&dead], minutes(335), minutes(360), minutes(60));
        assert_eq!(
            recurrence.take(&[&dead], minutes(360), minutes(360), minutes(60)),
            Keep::Again,
            "it counts from the archived one"
        );
    }

    #[test]
    fn another_finding_is_new_and_so_is_one_that_was_gone() {
        let (a, b) = (finding("x", Severity::Alarm, Some("a")), finding("x", Severity::Alarm, Some("b")));
        let mut recurrence = Recurrence::default();
        let mut take = |findings: &[&Finding], at| recurrence.take(findings, minutes(at), minutes(360), minutes(11));
        assert_eq!(take(&[&a], 0), Keep::New);
        assert_eq!(take(&[&a, &b], 5), Keep::New);
        assert_eq!(take(&[&b], 10), Keep::Known);
        assert_eq!(take(&[&a], 15), Keep::Known, "one snapshot without it is not the end of it");
        assert_eq!(take(&[&a], 40), Keep::New);
    }

    #[test]
    fn without_an_endpoint_the_address_tells_them_apart_and_the_count_does_not() {
        let first = finding("x", Severity::Alarm, None);
        let more = Finding { message: first.message.replace('3', "77"), ..first.clone() };
        let other = Finding { message: first.message.replace("10.0.0.1", "10.0.0.2"), ..first.clone() };
        assert_eq!(key(&first), key(&more));
        assert_ne!(key(&first), key(&other));
    }

    proptest! {
        #[test]
        fn a_finding_is_archived_at_least_once_a_period_and_memory_is_bounded(
            snapshots in prop::collection::vec(prop::collection::vec(0_u8..6, 1..4), 1..200),
        ) {
            let all: Vec<Finding> = (0..6).map(|n| finding("x", Severity::Alarm, Some(&n.to_string()))).collect();
            let mut recurrence = Recurrence::default();
            let mut archived: BTreeMap<u8, u64> = BTreeMap::new();
            for (number, present) in (0..).zip(snapshots) {
                let now = number * 5;
                let findings: Vec<&Finding> = present.iter().map(|n| &all[usize::from(*n)]).collect();
                let keep = recurrence.take(&findings, minutes(now), minutes(60), minutes(11));
                for n in present {
                    if keep != Keep::Known {
                        archived.insert(n, now);
                    }
                    let since = archived.get(&n).map(|at| now - at);
                    prop_assert!(since.is_some_and(|since| since < 60), "never seen and not archived, or too long ago");
                }
                prop_assert!(recurrence.seen.len() <= 6);
            }
        }
    }
}
