//! Requests and the answers that belong to them, whatever the protocol: matched by a key, timed, and told when they stay alone.

use super::{
    queue::Queue,
    shared::Shared,
    stream::{Arrival, ahead},
};
use std::collections::VecDeque;

/// Answers kept that came before their request: the capture, not the server, has them in that order.
const MAX_EARLY: usize = 8;
/// A request is forgotten, and counted as unanswered, after so many response time-outs.
const FORGET_AFTER_TIMEOUTS: i64 = 30;
/// Answered requests remembered, to know a second answer to one of them: the latest, which lie with the connection, ...
const RECENT: usize = 4;
/// ... and those before them, for the length of the time-out.
const MAX_ANSWERED: usize = 64;

/// Nobody answers a request that is for all.
pub(super) const IS_FOR_ALL: &str = "it is for all units, and nobody answers such a one";
/// The analysis did not wait for the answer.
const TOO_MANY_WAIT: &str = "too many requests wait for an answer to follow this one any further";
/// The capture has the answer, if there is one, only in part.
pub(super) const ANSWER_IS_CUT: &str = "the snap length cut what came in answer";
/// The capture has the one direction only.
pub(super) const ONE_SIDED: &str = "the capture has one direction of this connection only";
/// Its time is not over.
const STILL_OPEN: &str = "still within the time-out when it was last seen";

/// A request that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending<K, D> {
    pub key: K,
    /// What it asks for.
    pub detail: D,
    pub arrival: Arrival,
    /// Whether an answer is due; else one is welcome.
    due: bool,
    /// Whether the side that it goes to cannot be seen.
    unseen: bool,
    /// Whether a later request of the same key was answered.
    passed: bool,
}

/// What came of a request that leaves without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nobody answered it in time.
    Unanswered,
    /// That cannot be said, and why.
    Unknown(&'static str),
}

impl<K, D> Pending<K, D> {
    /// What came of it by `now`; `over`: no answer can come any more.
    pub fn fate(&self, now: i64, timeout_ns: i64, over: bool) -> Fate {
        match self.due {
            false => Fate::Unknown(IS_FOR_ALL),
            true if over || now.saturating_sub(self.arrival.stamp.at) > timeout_ns => match self.unseen {
                true => Fate::Unknown(ONE_SIDED),
                false => Fate::Unanswered,
            },
            true => Fate::Unknown(STILL_OPEN),
        }
    }
}

/// An answer without a request, so far.
#[derive(Debug, Clone, Copy)]
struct Early<K, A> {
    key: K,
    answer: A,
    arrival: Arrival,
}

/// Requests that wait on one connection, and answers that came before theirs.
#[derive(Debug)]
pub(super) struct Transactions<K, D, A> {
    pending: Queue<Pending<K, D>>,
    early: VecDeque<Early<K, A>>,
    /// When the latest answer came.
    last_answer: Option<i64>,
    /// The latest requests that were answered, and when; the oldest makes room.
    recent: [Option<(K, i64)>; RECENT],
    next_recent: usize,
    /// Those that made room within the time-out: none, unless requests follow on one another fast.
    answered: VecDeque<(K, i64)>,
    /// Whether the connection was entered in the middle, and nothing on it has been matched since; when its first message came.
    at_edge: bool,
    first_at: Option<i64>,
    /// Whether any request was seen.
    was_asked: bool,
    /// Whether the capture has one direction of the connection only.
    one_sided: bool,
}

/// A request and its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matched<D, A> {
    pub detail: D,
    pub answer: A,
    pub request: Arrival,
    pub response: Arrival,
}

impl<D, A> Matched<D, A> {
    /// From request to answer, in nanoseconds; negative when the capture has them the wrong way round.
    pub fn ns(&self) -> i64 {
        self.response.stamp.at.saturating_sub(self.request.stamp.at)
    }
}

impl<K: Copy + Eq, D: Copy, A: Copy> Transactions<K, D, A> {
    /// Of a connection seen from its beginning, or not.
    pub fn new(from_beginning: bool) -> Self {
        Self {
            pending: Queue::default(),
            early: VecDeque::new(),
            last_answer: None,
            recent: [None; RECENT],
            next_recent: 0,
            answered: VecDeque::new(),
            at_edge: !from_beginning,
            first_at: None,
            was_asked: false,
            one_sided: false,
        }
    }

    /// The capture has one direction of the connection only: nothing can be said of answers; or it turns out that it has both.
    pub fn set_one_sided(&mut self, one_sided: bool) {
        self.one_sided = one_sided;
        self.pending.iter_mut().for_each(|pending| pending.unseen |= one_sided);
    }

    /// Whether the capture has one direction of the connection only.
    pub fn is_one_sided(&self) -> bool {
        self.one_sided
    }

    /// Takes a request, to which an answer is `due` or not; gives the transaction if its answer was there before it.
    pub fn request(&mut self, key: K, detail: D, arrival: Arrival, due: bool) -> Option<Matched<D, A>> {
        self.first_at.get_or_insert(arrival.stamp.at);
        self.was_asked = true;
        // Whoever answered had received the request by then, and said so in the acknowledgement number.
        let had_request = |early: &Early<K, A>| early.arrival.ack.is_some_and(|ack| ahead(ack, arrival.seq_end) >= 0);
        if let Some(at) = self.early.iter().position(|early| early.key == key && had_request(early)) {
            let early = self.early.remove(at)?;
            return Some(Matched { detail, answer: early.answer, request: arrival, response: early.arrival });
        }
        self.pending.push(Pending { key, detail, arrival, due, unseen: self.one_sided, passed: false });
        None
    }

    /// Requests that wait were for what is known by another key.
    pub fn known_as(&mut self, asked: K, key: K) {
        self.pending.iter_mut().filter(|pending| pending.key == asked).for_each(|pending| pending.key = key);
    }

    /// Takes an answer; gives the transaction, or `None` when no request waits for it. Of several requests with one key that `fits`
    /// (or, if it fits none, of all) it belongs to the latest: the earlier ones were not answered, and were asked again. Unless that
    /// one was sent sooner after the one before than its answer took: then both were under way at once, and are answered in their order.
    pub fn answer(
        &mut self,
        key: K,
        answer: A,
        arrival: Arrival,
        timeout_ns: i64,
        fits: impl Fn(&D, &A) -> bool,
    ) -> Option<Matched<D, A>> {
        let now = arrival.stamp.at;
        self.first_at.get_or_insert(now);
        self.last_answer = Some(self.last_answer.map_or(now, |last| last.max(now)));
        let of_key = |pending: &&Pending<K, D>| pending.key == key;
        let any_fits = self.pending.iter().filter(of_key).any(|pending| fits(&pending.detail, &answer));
        let mut chosen: Option<(usize, i64)> = None;
        for (at, pending) in (0..self.pending.len()).rev().zip(self.pending.iter().rev()) {
            if pending.key != key || (any_fits && !fits(&pending.detail, &answer)) {
                continue;
            }
            let sent = pending.arrival.stamp.at;
            chosen = match chosen {
                // Whoever answers a later request late does not come back to this one.
                None if pending.passed && now.saturating_sub(sent) > timeout_ns => break,
                None => Some((at, sent)),
                Some((_, later)) if !pending.passed && later.saturating_sub(sent) <= now.saturating_sub(later) => Some((at, sent)),
                Some(_) => break,
            };
        }
        let (at, _) = chosen?;
        let pending = self.pending.remove(at)?;
        self.pending.iter_mut().take(at).filter(|earlier| earlier.key == key).for_each(|earlier| earlier.passed = true);
        self.was_answered_at(key, now, timeout_ns);
        self.at_edge = false;
        Some(Matched { detail: pending.detail, answer, request: pending.arrival, response: arrival })
    }

    fn was_answered_at(&mut self, key: K, now: i64, timeout_ns: i64) {
        let is_over = |at: i64| now.saturating_sub(at) > timeout_ns;
        let before = self.recent.get_mut(self.next_recent).and_then(|place| place.replace((key, now)));
        self.next_recent = (self.next_recent + 1) % RECENT;
        let Some(before) = before.filter(|(_, at)| !is_over(*at)) else { return };
        while self.answered.len() >= MAX_ANSWERED || self.answered.front().is_some_and(|(_, at)| is_over(*at)) {
            self.answered.pop_front();
        }
        self.answered.push_back(before);
    }

    /// Remembers an answer that no request waits for: the capture may have its request behind it.
    pub fn put_aside(&mut self, key: K, answer: A, arrival: Arrival) {
        if self.early.len() == MAX_EARLY {
            self.early.pop_front();
        }
        self.early.push_back(Early { key, answer, arrival });
    }

    /// Whether an answer that no request waits for may belong to one that was sent before the capture began.
    pub fn may_be_from_before(&self, at: i64, timeout_ns: i64) -> bool {
        self.one_sided
            || self.at_edge && (!self.was_asked || self.first_at.is_none_or(|first| at.saturating_sub(first) <= timeout_ns))
    }

    /// Whether a request of this key was answered within the time-out before `at`: then another answer is a duplicate.
    pub fn was_answered(&self, key: K, at: i64, timeout_ns: i64) -> bool {
        let mut all = self.recent.iter().flatten().chain(&self.answered);
        all.any(|(known, answered_at)| *known == key && at.saturating_sub(*answered_at) <= timeout_ns)
    }

    /// The requests that wait, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &Pending<K, D>> {
        self.pending.iter()
    }

    /// A request that must go before another can wait, because nobody will answer it any more, or because too many wait; and what came
    /// of it. To be asked until there is none.
    pub fn make_room(&mut self, now: i64, shared: &mut Shared) -> Option<(Pending<K, D>, Fate)> {
        let timeout = shared.limits.response_timeout;
        let first = self.pending.oldest()?;
        let age = now.saturating_sub(first.arrival.stamp.at);
        let is_full = shared.pending_is_full(self.pending.len());
        if !is_full && age <= timeout.saturating_mul(FORGET_AFTER_TIMEOUTS) {
            return None;
        }
        let fate = match first.fate(now, timeout, false) {
            Fate::Unknown(STILL_OPEN) => {
                shared.requests_forgotten += 1;
                Fate::Unknown(TOO_MANY_WAIT)
            }
            fate => fate,
        };
        shared.pending -= 1;
        self.pending.pop_oldest().map(|pending| (pending, fate))
    }

    /// Takes out the request that has waited longest.
    pub fn pop_oldest(&mut self) -> Option<Pending<K, D>> {
        self.pending.pop_oldest()
    }

    /// The requests that have waited for a due answer longer than the time-out.
    pub fn overdue(&self, now: i64, timeout_ns: i64) -> impl Iterator<Item = &Pending<K, D>> {
        self.past(now, timeout_ns).filter(|pending| !pending.unseen)
    }

    /// The requests that have waited longer than that, and of which nothing can be said, because the side that answers cannot be seen.
    pub fn unseen(&self, now: i64, timeout_ns: i64) -> u64 {
        self.past(now, timeout_ns).filter(|pending| pending.unseen).count() as u64
    }

    fn past(&self, now: i64, timeout_ns: i64) -> impl Iterator<Item = &Pending<K, D>> {
        let is_past = move |pending: &&Pending<K, D>| now.saturating_sub(pending.arrival.stamp.at) > timeout_ns;
        self.pending.iter().filter(|pending| pending.due).filter(is_past)
    }

    /// Whether a request is overdue and nothing was answered since it was sent.
    pub fn stalled(&self, now: i64, timeout_ns: i64) -> bool {
        self.overdue(now, timeout_ns).any(|pending| self.last_answer.is_none_or(|last| last < pending.arrival.stamp.at))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{settings::AnalysisSettings, tally::Stamp};

    const TIMEOUT: i64 = 2_000;

    fn at(at: i64) -> Arrival {
        Arrival { stamp: Stamp { number: 1, at }, seq_end: 100, ack: None }
    }

    type Numbers = Transactions<u16, &'static str, ()>;

    fn answered(transactions: &mut Numbers, key: u16, ms: i64) -> Option<(&'static str, i64)> {
        transactions.answer(key, (), at(ms), TIMEOUT, |_, ()| true).map(|matched| (matched.detail, matched.ns()))
    }

    fn asked(requests: &[(u16, &'static str, i64)]) -> Numbers {
        let mut transactions = Numbers::new(true);
        for &(key, detail, ms) in requests {
            assert!(transactions.request(key, detail, at(ms), true).is_none());
        }
        transactions
    }

    #[test]
    fn an_answer_belongs_to_the_request_of_its_key() {
        let mut transactions = asked(&[(1, "first", 0), (2, "second", 10)]);
        assert_eq!(answered(&mut transactions, 2, 30), Some(("second", 20)));
        assert_eq!(answered(&mut transactions, 1, 31), Some(("first", 31)));
        assert_eq!(answered(&mut transactions, 1, 32), None);
    }

    #[test]
    fn a_key_used_again_after_a_loss_is_answered_to_the_new_request() {
        for again in [500, 1_999, 5_000] {
            let mut transactions = asked(&[(0, "lost", 0), (0, "asked again", again)]);
            assert_eq!(answered(&mut transactions, 0, again + 4), Some(("asked again", 4)), "again after {again}");
            assert_eq!(transactions.overdue(again + TIMEOUT, TIMEOUT).map(|lost| lost.detail).collect::<Vec<_>>(), ["lost"]);
        }
    }

    #[test]
    fn one_loss_does_not_shift_what_follows() {
        let mut transactions = asked(&[(0, "lost", 0)]);
        for round in 1..20 {
            transactions.request(0, "poll", at(round * 500), true);
            assert_eq!(answered(&mut transactions, 0, round * 500 + 5), Some(("poll", 5)), "round {round}");
        }
    }

    #[test]
    fn requests_of_one_key_that_are_under_way_at_once_are_answered_in_their_order() {
        let mut transactions = asked(&[(0, "a", 0), (0, "b", 1), (0, "c", 2)]);
        assert_eq!(answered(&mut transactions, 0, 20), Some(("a", 20)));
        assert_eq!(answered(&mut transactions, 0, 21), Some(("b", 20)));
        assert_eq!(answered(&mut transactions, 0, 22), Some(("c", 20)));
    }

    #[test]
    fn an_answer_goes_to_the_request_that_it_fits() {
        let mut transactions = asked(&[(0, "ten registers", 0), (0, "two registers", 1)]);
        let fits = |detail: &&str, (): &()| detail.starts_with("two");
        assert_eq!(transactions.answer(0, (), at(500), TIMEOUT, fits).unwrap().detail, "two registers");
        // One that fits none is told as wrong by whoever looks at it.
        assert_eq!(transactions.answer(0, (), at(501), TIMEOUT, fits).unwrap().detail, "ten registers");
    }

    #[test]
    fn a_request_that_was_asked_again_can_have_its_own_answer_within_the_time_out_only() {
        let mut transactions = asked(&[(7, "first", 0), (7, "again", 500)]);
        assert_eq!(answered(&mut transactions, 7, 504), Some(("again", 4)));
        assert_eq!(answered(&mut transactions, 7, 508), Some(("first", 508)));
        let mut transactions = asked(&[(7, "first", 0), (7, "again", 500)]);
        assert_eq!(answered(&mut transactions, 7, 504), Some(("again", 4)));
        assert_eq!(answered(&mut transactions, 7, 2_100), None, "a second answer to the second request");
        assert!(transactions.was_answered(7, 2_100, TIMEOUT));
    }

    #[test]
    fn a_second_answer_is_known_after_many_others() {
        let mut transactions = Numbers::new(true);
        for key in 0..40 {
            transactions.request(key, "", at(i64::from(key)), true);
            assert!(answered(&mut transactions, key, i64::from(key) + 1).is_some());
        }
        assert!(transactions.was_answered(3, 50, TIMEOUT) && !transactions.was_answered(3, 3_000, TIMEOUT));
        for key in 0..1_000 {
            transactions.request(key, "", at(60), true);
            answered(&mut transactions, key, 61);
        }
        assert_eq!(transactions.answered.len(), MAX_ANSWERED);
    }

    #[test]
    fn a_late_answer_still_finds_its_request() {
        let mut transactions = asked(&[(7, "slow", 0)]);
        assert_eq!(transactions.overdue(TIMEOUT, TIMEOUT).count(), 0, "open, not missing");
        assert_eq!(transactions.overdue(TIMEOUT + 1, TIMEOUT).count(), 1);
        assert!(transactions.stalled(TIMEOUT + 1, TIMEOUT));
        assert_eq!(answered(&mut transactions, 7, 2_700), Some(("slow", 2_700)));
        assert!(!transactions.stalled(9_000, TIMEOUT));
    }

    #[test]
    fn an_answer_captured_before_its_request_is_matched_by_what_it_acknowledges() {
        let mut transactions = Numbers::new(true);
        transactions.put_aside(3, (), Arrival { ack: Some(100), ..at(10) });
        assert!(transactions.request(3, "out of order", at(11), true).is_some());
        // A stray answer to some earlier request of the same key is none to this one.
        transactions.put_aside(3, (), Arrival { ack: Some(100), ..at(20) });
        assert!(transactions.request(3, "new", Arrival { seq_end: 112, ..at(21) }, true).is_none());
    }

    #[test]
    fn what_may_have_been_asked_before_the_capture_began() {
        let mut transactions = Numbers::new(false);
        assert!(transactions.may_be_from_before(0, TIMEOUT) && answered(&mut transactions, 1, 0).is_none());
        assert!(transactions.may_be_from_before(9_000, TIMEOUT), "nobody asked anything yet");
        transactions.request(2, "first seen", at(9_000), true);
        assert!(!transactions.may_be_from_before(9_001, TIMEOUT));
        let mut transactions = Numbers::new(false);
        transactions.request(2, "first seen", at(0), true);
        assert!(transactions.may_be_from_before(1, TIMEOUT), "the one before was asked just before");
        assert!(answered(&mut transactions, 2, 3).is_some());
        assert!(!transactions.may_be_from_before(4, TIMEOUT));
        assert!(!Numbers::new(true).may_be_from_before(0, TIMEOUT));
    }

    #[test]
    fn requests_are_forgotten_after_a_while_and_when_too_many_wait() {
        let mut shared = Shared::new(&AnalysisSettings { max_pending_per_flow: 3, ..AnalysisSettings::default() });
        let second = 1_000_000_000;
        let mut transactions = asked(&[(1, "old", 0)]);
        shared.pending = 1;
        assert!(transactions.make_room(60 * second, &mut shared).is_none());
        let (old, fate) = transactions.make_room(61 * second, &mut shared).unwrap();
        assert_eq!((old.detail, fate, transactions.len(), shared.pending), ("old", Fate::Unanswered, 0, 0));
        let mut transactions = Numbers::new(true);
        transactions.request(1, "for all", at(0), false);
        transactions.request(2, "overdue", at(0), true);
        transactions.request(3, "open", at(2 * second), true);
        shared.pending = 3;
        let fates: Vec<_> = (0..3)
            .filter_map(|more| {
                let left = transactions.make_room(3 * second, &mut shared);
                transactions.request(4 + more, "more", at(3 * second), true);
                shared.pending += 1;
                left
            })
            .map(|(left, fate)| (left.detail, fate))
            .collect();
        let expected =
            [("for all", Fate::Unknown(IS_FOR_ALL)), ("overdue", Fate::Unanswered), ("open", Fate::Unknown(TOO_MANY_WAIT))];
        assert_eq!((fates.as_slice(), shared.requests_forgotten), (&expected[..], 1));
    }
}
