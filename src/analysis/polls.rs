//! What is asked again and again: how often, and how evenly.

use super::{queries::MAX_QUERIES, tally::ms};
use crate::protocol::modbus::Query;
use smallvec::SmallVec;
use std::net::IpAddr;

/// Queries whose period is measured on one connection.
const MAX_PER_CONNECTION: usize = 24;
/// Places for queries that are made at once.
const GROWS_BY: usize = 4;

/// One query that is repeated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Poll {
    pub query: Query,
    /// When it was asked last on this connection.
    last_at: i64,
    /// Intervals, their mean and the sum of the squares of their deviations (Welford's method).
    pub intervals: u64,
    mean_ns: f64,
    deviations: f64,
    max_ns: i64,
}

impl Poll {
    fn new(query: Query, at: i64) -> Self {
        Self { query, last_at: at, intervals: 0, mean_ns: 0.0, deviations: 0.0, max_ns: 0 }
    }

    fn again(&mut self, at: i64) {
        let interval = at.saturating_sub(self.last_at);
        self.last_at = at;
        if interval < 0 {
            return;
        }
        self.intervals += 1;
        let off = interval as f64 - self.mean_ns;
        self.mean_ns += off / self.intervals as f64;
        self.deviations += off * (interval as f64 - self.mean_ns);
        self.max_ns = self.max_ns.max(interval);
    }

    /// Takes in what another connection measured of the same query (Chan's method).
    fn merge(&mut self, other: &Self) {
        let (ours, theirs) = (self.intervals as f64, other.intervals as f64);
        if theirs > 0.0 {
            let off = other.mean_ns - self.mean_ns;
            let all = ours + theirs;
            self.deviations += other.deviations + off * off * ours * theirs / all;
            self.mean_ns += off * theirs / all;
            self.intervals += other.intervals;
            self.max_ns = self.max_ns.max(other.max_ns);
        }
    }

    /// The mean interval, the standard deviation from it, and the longest, in milliseconds.
    pub fn period_ms(&self) -> (f64, f64, f64) {
        let deviation = if self.intervals > 1 { (self.deviations / (self.intervals - 1) as f64).max(0.0).sqrt() } else { 0.0 };
        let rounded = |ns: f64| (ns / 1e4).round() / 1e2;
        (rounded(self.mean_ns), rounded(deviation), ms(self.max_ns))
    }
}

/// The queries of one connection, in the order in which they were first asked.
#[derive(Debug, Default)]
pub(super) struct Polls {
    /// Many connections ask for one thing, and need no memory beside for it.
    polls: SmallVec<[Poll; 1]>,
    /// Where the next query is expected: polls go round and round.
    next: usize,
    /// Requests with queries beyond those that are told apart.
    not_measured: u64,
}

impl Polls {
    pub fn ask(&mut self, query: Query, at: i64) {
        let place = match self.polls.get(self.next) {
            Some(poll) if poll.query == query => Some(self.next),
            _ => self.polls.iter().position(|poll| poll.query == query),
        };
        match place {
            Some(place) => {
                if let Some(poll) = self.polls.get_mut(place) {
                    poll.again(at);
                }
                self.next = if place + 1 < self.polls.len() { place + 1 } else { 0 };
            }
            None if self.polls.len() < MAX_PER_CONNECTION => {
                // There are many connections, and most ask for a few things only.
                if self.polls.len() == self.polls.capacity() {
                    self.polls.reserve_exact(GROWS_BY);
                }
                self.polls.push(Poll::new(query, at));
            }
            None => self.not_measured += 1,
        }
    }
}

/// The polls of a server, by who asks: what one client asks twice a second and another once is no poll of uneven period.
#[derive(Debug, Clone, Default)]
pub(super) struct AllPolls {
    list: Vec<(IpAddr, Poll)>,
    pub not_measured: u64,
}

impl AllPolls {
    /// Adds the polls of a connection of this client.
    pub fn add(&mut self, client: IpAddr, of_connection: &Polls) {
        self.not_measured += of_connection.not_measured;
        for poll in &of_connection.polls {
            let has_room = self.list.len() < MAX_QUERIES;
            match self.list.iter_mut().find(|(asker, known)| *asker == client && known.query == poll.query) {
                Some((_, known)) => known.merge(poll),
                None if has_room => self.list.push((client, *poll)),
                None => self.not_measured += poll.intervals + 1,
            }
        }
    }

    /// Those that were repeated, most frequent first.
    pub fn repeated(&self) -> Vec<(IpAddr, Poll)> {
        let mut polls: Vec<_> = self.list.iter().filter(|(_, poll)| poll.intervals > 0).copied().collect();
        polls.sort_by(|(asker, a), (other, b)| b.intervals.cmp(&a.intervals).then(a.query.cmp(&b.query)).then(asker.cmp(other)));
        polls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(offset: u16) -> Query {
        Query { unit_id: 1, function: 3, offset: Some(offset), count: Some(10) }
    }

    #[test]
    fn a_round_of_polls_has_its_period_and_its_jitter() {
        let mut polls = Polls::default();
        for round in 0..100_i64 {
            let jitter = if round % 2 == 0 { 0 } else { 10 };
            for offset in 0..5 {
                polls.ask(query(offset), (round * 500 + jitter + i64::from(offset)) * 1_000_000);
            }
        }
        assert_eq!(polls.polls.len(), 5);
        for poll in &polls.polls {
            let (mean, deviation, max) = poll.period_ms();
            assert!((mean - 500.1).abs() < 0.2 && (deviation - 10.0).abs() < 0.2 && max == 510.0, "{mean} {deviation} {max}");
        }
    }

    #[test]
    fn merged_is_as_if_measured_by_one() {
        let (mut one, mut two, mut both) = (Poll::new(query(0), 0), Poll::new(query(0), 100), Poll::new(query(0), 0));
        for at in [10, 20, 40, 100] {
            one.again(at);
            both.again(at);
        }
        for at in [107, 150, 151] {
            two.again(at);
            both.again(at);
        }
        one.merge(&two);
        assert_eq!((one.intervals, one.max_ns), (both.intervals, both.max_ns));
        assert!((one.mean_ns - both.mean_ns).abs() < 1e-9 && (one.deviations - both.deviations).abs() < 1e-6);
    }

    #[test]
    fn the_polls_of_two_clients_are_two() {
        let (mut slow, mut fast, mut all) = (Polls::default(), Polls::default(), AllPolls::default());
        (0..10).for_each(|round| slow.ask(query(0), round * 1_000_000_000));
        (0..40).for_each(|round| fast.ask(query(0), round * 250_000_000));
        let clients = [1, 2].map(|host| IpAddr::from([10, 0, 0, host]));
        all.add(clients[0], &slow);
        all.add(clients[1], &fast);
        let told: Vec<_> = all.repeated().into_iter().map(|(client, poll)| (client, poll.period_ms())).collect();
        assert_eq!(told, [(clients[1], (250.0, 0.0, 250.0)), (clients[0], (1000.0, 0.0, 1000.0))]);
    }

    #[test]
    fn memory_is_bounded_and_what_is_beyond_is_counted() {
        let (mut polls, mut all) = (Polls::default(), AllPolls::default());
        (0..1000).for_each(|offset| polls.ask(query(offset), 0));
        assert_eq!((polls.polls.len(), polls.not_measured), (MAX_PER_CONNECTION, 1000 - MAX_PER_CONNECTION as u64));
        for host in 0..100 {
            let mut one = Polls::default();
            one.ask(query(0), 0);
            all.add(IpAddr::from([10, 0, 0, host]), &one);
        }
        assert_eq!((all.list.len(), all.not_measured), (MAX_QUERIES, 100 - MAX_QUERIES as u64));
    }
}
