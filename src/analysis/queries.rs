//! How often something happened to which queries, so that a finding can name them.

use super::tally::{Stamp, Tally};
use std::fmt::{Display, Write as _};

/// Queries told apart; the rest are counted together.
pub(super) const MAX_QUERIES: usize = 64;
/// Queries that a message names.
const NAMED: usize = 3;

/// A tally, by query.
#[derive(Debug, Clone)]
pub(super) struct QueryTally<Q> {
    pub tally: Tally,
    queries: Vec<(Q, u64)>,
    others: u64,
}

impl<Q> Default for QueryTally<Q> {
    fn default() -> Self {
        Self { tally: Tally::default(), queries: Vec::new(), others: 0 }
    }
}

impl<Q: Copy + Eq + Ord + Display> QueryTally<Q> {
    pub fn add(&mut self, query: Q, stamp: Stamp) {
        self.tally.add(stamp);
        if let Some((_, count)) = self.queries.iter_mut().find(|(known, _)| *known == query) {
            *count += 1;
        } else if self.queries.len() < MAX_QUERIES {
            self.queries.push((query, 1));
        } else {
            self.others += 1;
        }
    }

    pub fn count(&self) -> u64 {
        self.tally.count
    }

    /// The queries, most frequent first: `read coils (function 1), unit 1, offset 0, count 8 (12 times); ...`.
    pub fn in_words(&self) -> String {
        let mut queries = self.queries.clone();
        queries.sort_by(|(left, left_count), (right, right_count)| right_count.cmp(left_count).then(left.cmp(right)));
        let mut words = String::new();
        for (number, (query, count)) in queries.iter().take(NAMED).enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
            let _ = write!(words, "{separator}{query} ({times})");
        }
        let more = queries.len().saturating_sub(NAMED);
        if self.others > 0 {
            let _ = write!(words, "; and more than {more} other queries");
        } else if more > 0 {
            let _ = write!(words, "; and {more} other {}", if more == 1 { "query" } else { "queries" });
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_most_frequent_and_counts_the_rest() {
        let mut tally = QueryTally::default();
        for (number, query) in ["c", "b", "a", "b", "d", "b", "c"].into_iter().enumerate() {
            tally.add(query, Stamp { number: number as u64 + 1, at: 0 });
        }
        assert_eq!(tally.in_words(), "b (3 times); c (2 times); a (once); and 1 other query");
        assert_eq!(tally.count(), 7);
    }

    #[test]
    fn remembers_a_bounded_number_of_queries() {
        let mut tally = QueryTally::default();
        for query in 0..1000_u32 {
            tally.add(query, Stamp { number: 1, at: 0 });
        }
        assert_eq!((tally.count(), tally.queries.len()), (1000, MAX_QUERIES));
        assert!(tally.in_words().ends_with("and more than 61 other queries"));
    }
}
