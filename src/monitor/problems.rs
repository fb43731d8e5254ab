//! What is wrong, told once for as long as it lasts: two problems that come by turns are two, and not a new one each time.

use std::{collections::BTreeMap, time::Duration};

/// A problem that was not told of for so long is new when it is told of again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// So many are remembered; what was told of longest ago is forgotten first.
const MAX_REMEMBERED: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: Duration,
    last: Duration,
}

/// The problems of late. Times are on a clock that is never set.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    seen: BTreeMap<String, Seen>,
    /// The one that began last.
    shown: Option<String>,
}

impl Problems {
    /// Something is wrong at `now`. True: that is new.
    pub fn take(&mut self, problem: &str, now: Duration) -> bool {
        self.seen.retain(|_, seen| now.saturating_sub(seen.last) < FORGOTTEN_AFTER);
        let is_new = !self.seen.contains_key(problem);
        self.seen.entry(problem.to_owned()).or_insert(Seen { first: now, last: now }).last = now;
        while self.seen.len() > MAX_REMEMBERED {
            let oldest = self.seen.iter().min_by_key(|(_, seen)| (seen.last, seen.first)).map(|(problem, _)| problem.clone());
            oldest.and_then(|problem| self.seen.remove(&problem));
        }
        // What lasts is not hidden by what lasts as well; what is past is.
        let shown = self.shown.as_ref().and_then(|shown| self.seen.get(shown));
        if is_new || shown.is_none_or(|shown| now.saturating_sub(shown.last) > Duration::from_secs(5)) {
            self.shown = Some(problem.to_owned());
        }
        is_new
    }

    /// The problem to show: of those that last, the one that began last; else the last one.
    pub fn shown(&self) -> Option<&str> {
        self.shown.as_deref()
    }

    /// This is not so any more. True: it was the one to show.
    pub fn solved(&mut self, problem: &str) -> bool {
        self.seen.remove(problem);
        let was_shown = self.shown.as_deref() == Some(problem);
        if was_shown {
            self.shown = None;
        }
        was_shown
    }

    /// All is well.
    pub fn well(&mut self) {
        self.shown = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn two_that_last_are_told_once_each_and_the_newer_one_is_shown() {
        let mut problems = Problems::default();
        let told: Vec<bool> = (0..100).flat_map(|s| [problems.take("full", at(s)), problems.take("lost", at(s))]).collect();
        assert_eq!(told.iter().filter(|told| **told).count(), 2);
        assert_eq!(problems.shown(), Some("lost"));
        assert!((100..110).all(|s| !problems.take("full", at(s))));
        assert_eq!(problems.shown(), Some("full"), "the other is past");
        assert!(!problems.solved("lost") && problems.shown().is_some());
        assert!(problems.solved("full") && problems.shown().is_none());
        assert!(problems.take("full", at(111)), "it was solved, so it is new");
        assert!(problems.take("full", at(111 + 600)), "or long ago");
    }

    #[test]
    fn it_remembers_a_bounded_number() {
        let mut problems = Problems::default();
        assert!((0..1000).all(|number| problems.take(&number.to_string(), at(number))));
        assert!(problems.seen.len() <= MAX_REMEMBERED && problems.shown() == Some("999"));
    }
}
