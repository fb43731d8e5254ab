//! Requests and the answers that belong to them, whatever the protocol: matched by a key, timed, and told when they stay alone.

use super::stream::{Arrival, ahead};
use std::collections::VecDeque;

/// Answers kept that came before their request: the capture, not the server, has them in that order.
const MAX_EARLY: usize = 8;
/// A request is forgotten, and counted as unanswered, after so many response time-outs.
const FORGET_AFTER_TIMEOUTS: i64 = 30;

/// Answered requests remembered, to know a second answer to one of them.
const RECENT: usize = 4;

/// A request that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending<K, D> {
    pub key: K,
    /// What it asks for.
    pub detail: D,
    pub arrival: Arrival,
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
    pending: VecDeque<Pending<K, D>>,
    early: VecDeque<Early<K, A>>,
    /// When the latest answer came.
    last_answer: Option<i64>,
    /// The latest requests that were answered, and when; the oldest is overwritten first.
    answered: [Option<(K, i64)>; RECENT],
    next_answered: usize,
}

impl<K, D, A> Default for Transactions<K, D, A> {
    fn default() -> Self {
        Self {
            pending: VecDeque::new(),
            early: VecDeque::new(),
            last_answer: None,
            answered: [const { None }; RECENT],
            next_answered: 0,
        }
    }
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
    /// Takes a request; gives the transaction if its answer was there before it.
    pub fn request(&mut self, key: K, detail: D, arrival: Arrival) -> Option<Matched<D, A>> {
        // Whoever answered had received the request by then, and said so in the acknowledgement number.
        let had_request = |early: &Early<K, A>| early.arrival.ack.is_some_and(|ack| ahead(ack, arrival.seq_end) >= 0);
        if let Some(at) = self.early.iter().position(|early| early.key == key && had_request(early)) {
            let early = self.early.remove(at)?;
            return Some(Matched { detail, answer: early.answer, request: arrival, response: early.arrival });
        }
        self.pending.push_back(Pending { key, detail, arrival });
        None
    }

    /// Takes an answer; gives the transaction, or `None` when no request waits for it. Of several requests with one key, it belongs
    /// to the oldest that is still within the time-out, else to the latest.
    pub fn answer(&mut self, key: K, answer: A, arrival: Arrival, timeout_ns: i64) -> Option<Matched<D, A>> {
        self.last_answer = Some(self.last_answer.map_or(arrival.stamp.at, |last| last.max(arrival.stamp.at)));
        let in_time = |pending: &Pending<K, D>| arrival.stamp.at.saturating_sub(pending.arrival.stamp.at) <= timeout_ns;
        let at = self.pending.iter().position(|pending| pending.key == key && in_time(pending));
        let at = at.or_else(|| self.pending.iter().rposition(|pending| pending.key == key));
        if let Some(pending) = at.and_then(|at| self.pending.remove(at)) {
            if let Some(place) = self.answered.get_mut(self.next_answered) {
                *place = Some((key, arrival.stamp.at));
            }
            self.next_answered = (self.next_answered + 1) % RECENT;
            return Some(Matched { detail: pending.detail, answer, request: pending.arrival, response: arrival });
        }
        if self.early.len() == MAX_EARLY {
            self.early.pop_front();
        }
        self.early.push_back(Early { key, answer, arrival });
        None
    }

    /// Whether a request of this key was answered within the time-out before `at`: then another answer is a duplicate.
    pub fn was_answered(&self, key: K, at: i64, timeout_ns: i64) -> bool {
        self.answered.iter().flatten().any(|(known, answered_at)| *known == key && at.saturating_sub(*answered_at) <= timeout_ns)
    }

    /// The requests that wait, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &Pending<K, D>> {
        self.pending.iter()
    }

    /// A request that has waited so long that nobody will answer it.
    pub fn expired(&mut self, now: i64, timeout_ns: i64) -> Option<Pending<K, D>> {
        let first = self.pending.front()?;
        let age = now.saturating_sub(first.arrival.stamp.at);
        if age > timeout_ns.saturating_mul(FORGET_AFTER_TIMEOUTS) { self.pending.pop_front() } else { None }
    }

    /// Takes out the request that has waited longest.
    pub fn pop_oldest(&mut self) -> Option<Pending<K, D>> {
        self.pending.pop_front()
    }

    /// The requests that have waited longer than the time-out.
    pub fn overdue(&self, now: i64, timeout_ns: i64) -> impl Iterator<Item = &Pending<K, D>> {
        self.pending.iter().filter(move |pending| now.saturating_sub(pending.arrival.stamp.at) > timeout_ns)
    }

    /// Whether a request is overdue and nothing was answered since it was sent.
    pub fn stalled(&self, now: i64, timeout_ns: i64) -> bool {
        self.overdue(now, timeout_ns).any(|pending| self.last_answer.is_none_or(|last| last < pending.arrival.stamp.at))
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::tally::Stamp;

    const TIMEOUT: i64 = 2_000;

    fn at(at: i64) -> Arrival {
        Arrival { stamp: Stamp { number: 1, at }, seq_end: 100, ack: None }
    }

    type Numbers = Transactions<u16, &'static str, ()>;

    #[test]
    fn an_answer_belongs_to_the_request_of_its_key() {
        let mut transactions = Numbers::default();
        transactions.request(1, "first", at(0));
        transactions.request(2, "second", at(10));
        assert_eq!(transactions.answer(2, (), at(30), TIMEOUT).map(|matched| (matched.detail, matched.ns())), Some(("second", 20)));
        assert_eq!(transactions.answer(1, (), at(31), TIMEOUT).map(|matched| (matched.detail, matched.ns())), Some(("first", 31)));
        assert!(transactions.answer(1, (), at(32), TIMEOUT).is_none());
    }

    #[test]
    fn a_key_used_again_after_a_loss_is_answered_to_the_new_request() {
        let mut transactions = Numbers::default();
        transactions.request(0, "lost", at(0));
        transactions.request(0, "answered", at(5_000));
        assert_eq!(transactions.answer(0, (), at(5_001), TIMEOUT).unwrap().detail, "answered");
        assert_eq!(transactions.overdue(5_001, TIMEOUT).count(), 1);
    }

    #[test]
    fn a_late_answer_still_finds_its_request() {
        let mut transactions = Numbers::default();
        transactions.request(7, "slow", at(0));
        assert_eq!(transactions.overdue(TIMEOUT, TIMEOUT).count(), 0, "open, not missing");
        assert_eq!(transactions.overdue(TIMEOUT + 1, TIMEOUT).count(), 1);
        assert!(transactions.stalled(TIMEOUT + 1, TIMEOUT));
        assert_eq!(transactions.answer(7, (), at(2_700), TIMEOUT).unwrap().ns(), 2_700);
        assert!(!transactions.stalled(9_000, TIMEOUT));
    }

    #[test]
    fn an_answer_captured_before_its_request_is_matched_by_what_it_acknowledges() {
        let mut transactions = Numbers::default();
        assert!(transactions.answer(3, (), Arrival { ack: Some(100), ..at(10) }, TIMEOUT).is_none());
        assert!(transactions.request(3, "out of order", at(11)).is_some());
        // A stray answer to some earlier request of the same key is none to this one.
        assert!(transactions.answer(3, (), Arrival { ack: Some(100), ..at(20) }, TIMEOUT).is_none());
        assert!(transactions.request(3, "new", Arrival { seq_end: 112, ..at(21) }).is_none());
    }

    #[test]
    fn requests_are_forgotten_after_a_while() {
        let mut transactions = Numbers::default();
        transactions.request(1, "old", at(0));
        assert!(transactions.expired(TIMEOUT * 30, TIMEOUT).is_none());
        assert_eq!(transactions.expired(TIMEOUT * 30 + 1, TIMEOUT).unwrap().detail, "old");
        assert_eq!(transactions.len(), 0);
    }
}
