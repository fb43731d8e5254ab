//! What two analyses that overlap have both found is told by the earlier one.
//!
//! ```text
//!   earlier  ├───────────────────────────┤
//!   later                   ├── shared ──┼──────── its own ────────┤
//!                                        the seam: what the later one has found by now, the earlier one has found, too
//! ```
//!
//! At the seam both have had the same packets, so whatever the later one has found in them is the earlier one's to tell. What it finds after
//! the seam is its own, also of packets before it: a request of the shared time that is overdue only now is told here and nowhere else.

use super::{Analysis, catalogue};
use crate::api::{Finding, UtcTime};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// Rooms of findings that say how something is, rather than how often something happened, and such findings of other rooms: they go on
/// until their words say that they are over.
const LASTING_ROOMS: [&str; 4] = ["host.", "heartbeat.", "site.", "kernel."];
const LASTING: [&catalogue::Entry; 2] = [catalogue::TCP_ZERO_WINDOW, catalogue::CAPTURE_ONE_SIDED];
/// Those of them that also happen again, and are counted: what was told of them is not counted anew.
const COUNTED: [&catalogue::Entry; 2] = [catalogue::HOST_SILENT, catalogue::HOST_STALLED];

/// What a finding is about: its endpoint, or else the addresses that it names.
fn names(about: &str) -> impl Iterator<Item = &str> {
    about.split(' ').map(|name| name.trim_matches(|c: char| !c.is_alphanumeric()))
}

fn is_lasting(code: &str) -> bool {
    LASTING_ROOMS.iter().any(|room| code.starts_with(room)) || LASTING.iter().any(|entry| entry.code == code)
}

fn is_counted(code: &str) -> bool {
    !is_lasting(code) || COUNTED.iter().any(|entry| entry.code == code)
}

/// What an analysis has told, for the one that overlaps with it and goes on.
#[derive(Debug, Clone)]
pub struct Told {
    by: String,
    /// By code, what the findings are about.
    found: BTreeMap<String, BTreeSet<String>>,
}

impl Told {
    /// All that was told under this name.
    pub fn new(by: &str, findings: &[Finding]) -> Self {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for finding in findings {
            found.entry(finding.code.clone()).or_default().extend(names(&finding.about()).map(str::to_owned));
        }
        Self { by: by.to_owned(), found }
    }

    fn has(&self, finding: &Finding) -> bool {
        self.found.get(&finding.code).is_some_and(|told| names(&finding.about()).all(|name| told.contains(name)))
    }
}

/// A finding as it was at the seam.
#[derive(Debug)]
struct Mark {
    about: String,
    first: (Option<UtcTime>, Option<u64>),
    last_at: Option<UtcTime>,
    count: u64,
    message: String,
}

/// When a finding was first seen, and in which packet.
fn first(finding: &Finding) -> (Option<UtcTime>, Option<u64>) {
    (finding.first_at, finding.packets.first().copied())
}

/// What an analysis had found when an earlier one ended, that had all its packets, too.
#[derive(Debug)]
pub(super) struct Seam {
    by: String,
    /// By code.
    marks: BTreeMap<String, Vec<Mark>>,
}

impl Seam {
    fn new(by: &str, found: impl Iterator<Item = Finding>) -> Self {
        let mut marks: BTreeMap<String, Vec<Mark>> = BTreeMap::new();
        for finding in found {
            let (about, first) = (finding.about(), first(&finding));
            let Finding { code, last_at, count, message, .. } = finding;
            marks.entry(code).or_default().push(Mark { about, first, last_at, count, message });
        }
        Self { by: by.to_owned(), marks }
    }
}

/// Tells an analysis' own findings from those that an earlier one tells.
pub(super) struct Own<'a> {
    seam: &'a Seam,
    told: &'a Told,
    /// How many findings have this code and are about this.
    alike: BTreeMap<(String, String), usize>,
    /// So many were left to the earlier one.
    left: u64,
}

impl<'a> Own<'a> {
    /// `found` is all that the later one has found.
    fn new<'f>(seam: &'a Seam, told: &'a Told, found: impl Iterator<Item = &'f Finding>) -> Self {
        let mut alike = BTreeMap::new();
        found.for_each(|finding| *alike.entry((finding.code.clone(), finding.about())).or_default() += 1);
        Self { seam, told, alike, left: 0 }
    }

    /// A finding as far as it is the later one's own; `None` if all of it is told by the earlier one. What cannot be matched for certain is
    /// its own.
    pub fn take(&mut self, mut finding: Finding) -> Option<Finding> {
        let Some(mark) = self.mark(&finding).filter(|_| self.told.has(&finding)) else { return Some(finding) };
        let is_lasting = is_lasting(&finding.code);
        let lasts = is_lasting && (finding.last_at.is_none() || finding.message != mark.message);
        if finding.count <= mark.count && finding.last_at <= mark.last_at && !lasts {
            self.left += 1;
            return None;
        }
        // What was told may have come to a good end since: a request that was overdue is answered late. One at the least is new, and all of it
        // if it begins behind what was told, or lasted and is told anew with what came of it.
        let begins_anew = finding.first_at.zip(mark.last_at).is_some_and(|(first, last)| first > last);
        let is_another = begins_anew || (is_lasting && finding.count <= mark.count);
        let new = if is_another { finding.count } else { finding.count.saturating_sub(mark.count).max(1) };
        if finding.count > new && is_counted(&finding.code) {
            let told = finding.count - new;
            let are = if told == 1 { "is" } else { "are" };
            let _ = write!(finding.message, "; {told} of them {are} told by the snapshot before");
            finding.count = new;
        }
        Some(finding)
    }

    /// What a finding was at the seam.
    fn mark(&self, finding: &Finding) -> Option<&'a Mark> {
        let marks = self.seam.marks.get(&finding.code)?;
        let key = (finding.code.clone(), finding.about());
        let mut alike = marks.iter().filter(|mark| mark.about == key.1);
        if let (Some(only), None) = (alike.next(), alike.next())
            && self.alike.get(&key) == Some(&1)
        {
            return Some(only);
        }
        // Of several alike, and of one that has become about more.
        let about: BTreeSet<&str> = names(&key.1).collect();
        let is_same = |mark: &&Mark| mark.first == first(finding) && names(&mark.about).all(|name| about.contains(name));
        let mut same = marks.iter().filter(is_same);
        same.next().filter(|_| same.next().is_none())
    }

    /// What was left to the earlier one, in words.
    pub fn in_words(&self) -> Option<String> {
        let (findings, are) = if self.left == 1 { ("finding", "is") } else { ("findings", "are") };
        (self.left > 0).then(|| format!("{} {findings} of the overlap {are} told by {}", self.left, self.told.by))
    }
}

impl Analysis {
    /// An earlier analysis of this name ends here, that had all packets of this one so far; the kernel had dropped so many meanwhile.
    pub fn mark_seam(&mut self, by: &str, dropped: u64) {
        self.set_dropped(dropped);
        self.seam = Some(Seam::new(by, self.all_found()));
    }

    /// What tells an earlier analysis' findings from its own, if there is what that one has told.
    pub(super) fn own<'a, 'f>(&'a self, told: &'a [Told], found: impl Iterator<Item = &'f Finding>) -> Option<Own<'a>> {
        let seam = self.seam.as_ref()?;
        let told = told.iter().find(|told| told.by == seam.by)?;
        Some(Own::new(seam, told, found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Severity;
    use proptest::prelude::*;

    /// A finding of so many things, seen at these seconds.
    fn finding(code: &str, count: u64, from_to: Option<(i64, i64)>, message: &str) -> Finding {
        let at = |second: i64| UtcTime::from_unix_ns(second * 1_000_000_000);
        Finding {
            code: code.into(),
            severity: Severity::Warning,
            count,
            first_at: from_to.map(|(from, _)| at(from)),
            last_at: from_to.map(|(_, to)| at(to)),
            endpoint_id: None,
            message: message.into(),
            packets: from_to.into_iter().map(|(from, _)| u64::try_from(from).unwrap()).collect(),
        }
    }

    /// What the later one tells: how often, of each.
    fn own(told: &[&Finding], at_seam: &[&Finding], found: &[&Finding]) -> Vec<(String, u64)> {
        let owned = |findings: &[&Finding]| findings.iter().copied().cloned().collect::<Vec<_>>();
        let (seam, told) = (Seam::new("a", owned(at_seam).into_iter()), Told::new("a", &owned(told)));
        let mut own = Own::new(&seam, &told, found.iter().copied());
        owned(found).into_iter().filter_map(|finding| own.take(finding)).map(|finding| (finding.message, finding.count)).collect()
    }

    #[test]
    fn what_was_there_at_the_seam_and_has_not_grown_is_told_already() {
        let refused = finding("tcp.refused", 1, Some((8, 8)), "1 attempt to 10.0.0.1:502 was refused");
        let told = own(&[&refused], &[&refused], &[&refused]);
        assert!(told.is_empty(), "{told:?}");
        assert_eq!(own(&[], &[&refused], &[&refused]).len(), 1, "the earlier one has not told it");
        assert_eq!(own(&[&refused], &[], &[&refused]).len(), 1, "it was found after the seam, whenever it was");
    }

    #[test]
    fn what_goes_on_is_told_and_counts_from_the_seam() {
        let at = |count, to| finding("modbus.exceptions", count, Some((8, to)), "10.0.0.1:502 answered with exceptions");
        let told = own(&[&at(150, 10)], &[&at(5, 10)], &[&at(155, 300)]);
        assert_eq!(told, [("10.0.0.1:502 answered with exceptions; 5 of them are told by the snapshot before".into(), 150)]);
        // One of two was answered in the end, and there is another one.
        assert_eq!(own(&[&at(2, 10)], &[&at(2, 10)], &[&at(1, 99)])[0].1, 1);
        // All five were answered in the end, and there are three others.
        let others = finding("modbus.exceptions", 3, Some((40, 99)), "10.0.0.1:502 answered with exceptions");
        assert_eq!(own(&[&at(5, 10)], &[&at(5, 10)], &[&others]), [("10.0.0.1:502 answered with exceptions".into(), 3)]);
    }

    #[test]
    fn what_lasts_is_told_until_its_words_say_that_it_is_over() {
        let silent =
            |words: &str| finding("host.silent", 1, Some((8, 9)), &format!("10.0.0.1:502 has said nothing since, for {words}"));
        assert_eq!(own(&[&silent("2 s")], &[&silent("2 s")], &[&silent("291 s")]).len(), 1);
        assert!(own(&[&silent("2 s")], &[&silent("2 s")], &[&silent("2 s")]).is_empty(), "it was over at the seam");
        let one_sided = finding("capture.one_sided", 3, None, "of 3 connections only one direction was captured");
        assert_eq!(own(&[&one_sided], &[&one_sided], &[&one_sided]).len(), 1);
        let dropped = |count| finding("capture.dropped", count, None, "the recording host lost packets");
        assert!(own(&[&dropped(7)], &[&dropped(3)], &[&dropped(3)]).is_empty(), "all of it was lost before the seam");
        assert_eq!(own(&[&dropped(7)], &[&dropped(3)], &[&dropped(5)])[0].1, 2);
    }

    #[test]
    fn a_silence_or_a_stall_that_was_told_is_not_counted_again_with_the_next_one() {
        for code in ["host.silent", "host.stalled"] {
            let (one, two) = (finding(code, 1, Some((8, 9)), "10.0.0.1"), finding(code, 3, Some((8, 99)), "10.0.0.1"));
            assert_eq!(own(&[&one], &[&one], &[&two]), [("10.0.0.1; 1 of them is told by the snapshot before".into(), 2)]);
            assert!(own(&[&one], &[&one], &[&one]).is_empty());
        }
    }

    #[test]
    fn a_silence_that_goes_on_over_the_seam_is_told_by_both_with_what_each_knows() {
        let silent = |severity, count, to, words: &str| Finding { severity, ..finding("host.silent", count, Some((8, to)), words) };
        let goes_on = silent(Severity::Alarm, 1, 10, "10.0.0.1:502 has said nothing since, for 2 s");
        for (severity, to, words) in [
            (Severity::Alarm, 10, "10.0.0.1:502 has said nothing since, for 200 s"),
            (Severity::Warning, 12, "10.0.0.1:502 said nothing, for 4 s"),
        ] {
            assert_eq!(own(&[&goes_on], &[&goes_on], &[&silent(severity, 1, to, words)]), [(words.into(), 1)]);
        }
        let with_others = silent(Severity::Warning, 7, 99, "10.0.0.1:502 said nothing, for 4 s");
        let told = own(&[&goes_on], &[&goes_on], &[&with_others]);
        assert_eq!(told, [("10.0.0.1:502 said nothing, for 4 s; 1 of them is told by the snapshot before".into(), 6)]);
    }

    #[test]
    fn of_each_code_that_lasts_it_is_decided_whether_it_is_counted() {
        let lasting = catalogue::ENTRIES.iter().map(|entry| entry.code).filter(|code| is_lasting(code));
        let (counted, whole): (Vec<&str>, Vec<&str>) = lasting.partition(|code| is_counted(code));
        assert_eq!(counted, ["host.silent", "host.stalled"]);
        let expected = [
            "tcp.zero_window",
            "heartbeat.frozen",
            "heartbeat.not_seen",
            "site.unknown_server",
            "site.unknown_client",
            "site.never_seen",
            "site.device_elsewhere",
            "site.unit_unknown",
            "site.link_unknown",
            "capture.one_sided",
            "kernel.session_lost",
        ];
        assert_eq!(whole, expected);
    }

    #[test]
    fn several_of_one_code_are_told_apart_by_where_they_begin() {
        let exceptions = |count, from_to, kind: &str| {
            finding("modbus.exceptions", count, Some(from_to), &format!("10.0.0.1:502 answered with {kind}"))
        };
        let (two, three) = (exceptions(1, (8, 8), "exception 2"), exceptions(4, (20, 30), "exception 3"));
        let told = own(&[&two], &[&two], &[&two, &three]);
        assert_eq!(told, [(three.message, 4)]);
        let silent = |addresses: &str, count, to| {
            finding("arp.unanswered", count, Some((8, to)), &format!("nobody answered for {addresses}"))
        };
        let told = silent("10.0.0.7, 10.0.0.9", 12, 9);
        assert!(own(&[&told], &[&silent("10.0.0.9", 3, 9)], &[&silent("10.0.0.9", 3, 9)]).is_empty());
        assert_eq!(
            own(&[&told], &[&silent("10.0.0.9", 3, 9)], &[&silent("10.0.0.9, 10.0.0.11", 5, 50)])[0].1,
            5,
            "the last is new"
        );
    }

    proptest! {
        /// Things happen, each of a kind, at a second, and are found some seconds later; the earlier analysis has those of seconds 0 to 29, the
        /// later one those of 20 to 59, and the seam is at 30.
        #[test]
        fn each_is_told_once_and_none_is_lost(happens in prop::collection::vec((0_usize..4, 0_i64..60, 0_i64..12), 0..60)) {
            let found = |from: i64, to: i64| -> Vec<Finding> {
                let kinds = (0..4).filter_map(|kind| {
                    let of_kind = happens.iter().filter(|(of, at, after)| *of == kind && (from..to).contains(at) && at + after < to);
                    let times: Vec<i64> = of_kind.map(|(_, at, _)| *at).collect();
                    let from_to = (*times.iter().min()?, *times.iter().max()?);
                    Some(finding(["tcp.reset", "modbus.late"][kind % 2], times.len() as u64, Some(from_to), &format!("10.0.0.{kind}")))
                });
                kinds.collect()
            };
            let (told, later, shared) = (found(0, 30), found(20, 60), found(20, 30));
            let [of_told, of_later, of_shared] = [&told, &later, &shared].map(|found| found.iter().collect::<Vec<_>>());
            let own = own(&of_told, &of_shared, &of_later);
            for kind in 0..4 {
                let name = format!("10.0.0.{kind}");
                let once = told.iter().find(|finding| finding.message == name).map_or(0, |finding| finding.count);
                let again = own.iter().find(|(message, _)| message.split(';').next() == Some(&name)).map_or(0, |(_, count)| *count);
                // What is found after the earlier one's end, of its own time alone, nobody can find.
                let all = happens.iter().filter(|(of, at, after)| *of == kind && at + after < 60 && (*at >= 20 || at + after < 30));
                prop_assert_eq!(once + again, all.count() as u64);
            }
        }
    }
}
