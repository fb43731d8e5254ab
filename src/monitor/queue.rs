//! The queue of a sink: what waits to be sent, when it is tried again, and what is given up. Plain functions over values; the time is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::Duration,
};

/// The wait after the first failure; each one after it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The wait after a refusal, which trying again soon will not mend.
const REFUSED_WAIT: Duration = Duration::from_secs(60);
/// What nobody was there for so long is told of; a refusal is told at once.
const LASTING: Duration = Duration::from_secs(600);

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody was there, or it broke off: a matter of time.
    Unreachable,
    /// It was understood and not wanted: somebody has to change something.
    Refused,
}

/// What comes of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setback {
    /// How long to wait before the next attempt.
    pub wait: Duration,
    /// Whether it is time to tell that this does not end.
    pub tell: bool,
}

/// What waits for one sink, by name; names sort by age.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    waiting: BTreeMap<String, u64>,
    bytes: u64,
    sending: Option<String>,
    /// The last one that was refused, while those after it have not had their turn.
    refused: Option<String>,
    failures: u32,
    failing_since: Option<Duration>,
    /// What was ever refused and still waits.
    unwanted: BTreeSet<String>,
    is_told: bool,
}

impl Queue {
    /// Takes one more. Gives what must go so that all together have at most `max_bytes`: the oldest first, never the one that is being sent,
    /// and never the newest, however large it is.
    pub fn add(&mut self, name: &str, bytes: u64, max_bytes: u64) -> Vec<String> {
        self.bytes -= self.waiting.insert(name.to_owned(), bytes).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(bytes);
        let newest = self.waiting.last_key_value().map(|(name, _)| name.clone());
        let mut dropped = Vec::new();
        while self.bytes > max_bytes {
            let may_go = |name: &&String| Some(*name) != newest.as_ref() && Some(*name) != self.sending.as_ref();
            let Some(oldest) = self.waiting.keys().find(may_go).cloned() else { break };
            self.remove(&oldest);
            dropped.push(oldest);
        }
        dropped
    }

    /// The next to be sent: the oldest; but the others have their turn before one that was refused, for that may be for its own sake. It counts
    /// as being sent until [`Self::sent`] or [`Self::failed`].
    pub fn take_next(&mut self) -> Option<String> {
        let after = self.refused.take();
        let later =
            after.as_ref().and_then(|name| self.waiting.range::<String, _>((Bound::Excluded(name), Bound::Unbounded)).next());
        // After the last one it begins anew.
        if later.is_some() {
            self.refused.clone_from(&after);
        }
        self.sending = later.or_else(|| self.waiting.first_key_value()).map(|(name, _)| name.clone());
        self.sending.clone()
    }

    /// The one being sent has been taken. True: that had been told not to work, and now it does.
    pub fn sent(&mut self) -> bool {
        if let Some(name) = self.sending.take() {
            self.remove(&name);
        }
        (self.failures, self.failing_since) = (0, None);
        // While one is refused for its own sake, neither its refusal nor the others' success is news.
        self.unwanted.is_empty() && std::mem::take(&mut self.is_told)
    }

    /// The one being sent is not there any more: nothing is to be sent of it.
    pub fn gone(&mut self) {
        if let Some(name) = self.sending.take() {
            self.remove(&name);
        }
    }

    /// The one being sent was not taken, at `now` on a clock that is never set. It stays. `jitter` is from 0 to 1, so that many sites do
    /// not come back at the same moment.
    pub fn failed(&mut self, why: Refusal, now: Duration, jitter: f64) -> Setback {
        let name = self.sending.take();
        if why == Refusal::Refused {
            self.unwanted.extend(name.clone());
            self.refused = name;
        }
        let since = *self.failing_since.get_or_insert(now);
        let doubled = FIRST_WAIT.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        let wait = if why == Refusal::Refused { doubled.max(REFUSED_WAIT) } else { doubled };
        let is_news = why == Refusal::Refused || now.saturating_sub(since) >= LASTING;
        let tell = is_news && !self.is_told;
        self.is_told |= tell;
        Setback { wait: wait.mul_f64(1.0 + 0.25 * jitter.clamp(0.0, 1.0)), tell }
    }

    /// Whether it has been told that what waits is not taken.
    pub fn is_failing(&self) -> bool {
        self.is_told
    }

    /// Takes out one that is not worth its room any more. False: it is not there, or on its way.
    pub fn give_up(&mut self, name: &str) -> bool {
        let may_go = self.sending.as_deref() != Some(name) && self.contains(name);
        if may_go {
            self.remove(name);
        }
        may_go
    }

    /// All that wait, the oldest first, with their bytes and whether they are being sent.
    pub fn waiting(&self) -> impl Iterator<Item = (&str, u64, bool)> {
        self.waiting.iter().map(|(name, bytes)| (name.as_str(), *bytes, self.sending.as_ref() == Some(name)))
    }

    /// Whether it waits, or is being sent.
    pub fn contains(&self, name: &str) -> bool {
        self.waiting.contains_key(name)
    }

    /// How many wait, the one being sent among them.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What they have together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn remove(&mut self, name: &str) {
        self.bytes -= self.waiting.remove(name).unwrap_or(0);
        self.unwanted.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_is_sent_first_and_stays_until_it_was_taken() {
        let mut queue = Queue::default();
        for name in ["b", "a", "c"] {
            assert!(queue.add(name, 10, 100).is_empty());
        }
        assert_eq!(queue.take_next().as_deref(), Some("a"));
        queue.failed(Refusal::Unreachable, Duration::ZERO, 0.0);
        assert_eq!((queue.len(), queue.bytes()), (3, 30));
        assert_eq!(queue.take_next().as_deref(), Some("a"));
        queue.sent();
        assert_eq!(queue.take_next().as_deref(), Some("b"));
        queue.gone();
        assert_eq!((queue.take_next().as_deref(), queue.bytes()), (Some("c"), 10));
    }

    #[test]
    fn what_is_given_up_is_not_the_one_on_its_way() {
        let mut queue = Queue::default();
        for name in ["a", "b"] {
            queue.add(name, 10, 100);
        }
        queue.take_next().unwrap();
        assert!(queue.waiting().eq([("a", 10, true), ("b", 10, false)]));
        assert!(!queue.give_up("a") && queue.give_up("b") && !queue.give_up("b"));
        assert_eq!((queue.len(), queue.bytes()), (1, 10));
    }

    #[test]
    fn waits_double_up_to_a_limit_and_a_refusal_waits_longer() {
        let mut queue = Queue::default();
        let wait = |queue: &mut Queue, why| queue.failed(why, Duration::ZERO, 0.0).wait.as_secs();
        let waits: Vec<u64> = (0..40).map(|_| wait(&mut queue, Refusal::Unreachable)).collect();
        assert_eq!(waits[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(waits[39], 300);
        queue.sent();
        assert_eq!((wait(&mut queue, Refusal::Unreachable), wait(&mut queue, Refusal::Refused)), (1, 60));
    }

    #[test]
    fn what_lasts_is_told_once_and_so_is_its_end() {
        let mut queue = Queue::default();
        let tell = |queue: &mut Queue, minute: u64| queue.failed(Refusal::Unreachable, Duration::from_secs(minute * 60), 0.5).tell;
        let told: Vec<bool> = [0, 9, 10, 11, 60].into_iter().map(|minute| tell(&mut queue, minute)).collect();
        assert_eq!(told, [false, false, true, false, false]);
        assert!(queue.sent() && !queue.sent());
        assert!(!tell(&mut queue, 61), "the clock begins anew");
        assert!(!queue.sent(), "a short failure is no news");
    }

    #[test]
    fn a_refusal_is_told_at_once_and_holds_up_no_other() {
        let mut queue = Queue::default();
        for name in ["a", "b", "c"] {
            queue.add(name, 10, 100);
        }
        let mut tried = Vec::new();
        for _ in 0..6 {
            let name = queue.take_next().unwrap();
            if name == "a" || name == "b" {
                let told = queue.failed(Refusal::Refused, Duration::ZERO, 0.0).tell;
                assert_eq!(told, tried.is_empty(), "{tried:?}");
            } else {
                assert!(!queue.sent(), "the others work, and that is no news");
            }
            tried.push(name);
        }
        assert_eq!(tried, ["a", "b", "c", "a", "b", "a"]);
    }

    proptest! {
        #[test]
        fn only_what_must_go_goes_and_never_what_is_sent_or_newest(
            sizes in prop::collection::vec(0_u64..100, 1..60), max_bytes in 0_u64..600, take in prop::collection::vec(0_u8..4, 60)
        ) {
            let mut queue = Queue::default();
            let mut model: BTreeMap<String, u64> = BTreeMap::new();
            let mut sending: Option<String> = None;
            for (number, (size, take)) in sizes.iter().zip(take).enumerate() {
                let name = format!("{number:04}");
                let dropped = queue.add(&name, *size, max_bytes);
                model.insert(name.clone(), *size);
                for gone in &dropped {
                    prop_assert!(Some(gone) != sending.as_ref() && *gone != name);
                    let sum: u64 = model.values().sum();
                    prop_assert!(sum > max_bytes, "{gone} went without need");
                    let older = model.keys().take_while(|name| *name < gone).filter(|name| Some(*name) != sending.as_ref()).count();
                    prop_assert_eq!(older, 0, "an older one stayed");
                    model.remove(gone);
                }
                let left_over = model.len() - usize::from(sending.is_some());
                prop_assert!(model.values().sum::<u64>() <= max_bytes || left_over <= 1);
                match take {
                    0 => sending = queue.take_next(),
                    1 => {
                        queue.sent();
                        sending.take().map(|name| model.remove(&name));
                    }
                    2 => {
                        let jitter = f64::from(take);
                        let setback = queue.failed(Refusal::Refused, Duration::ZERO, jitter);
                        prop_assert!(setback.wait <= LONGEST_WAIT.mul_f64(1.25));
                        sending = None;
                    }
                    _ => {}
                }
                prop_assert_eq!((queue.len(), queue.bytes()), (model.len(), model.values().sum::<u64>()));
            }
        }
    }
}
