//! Which pairs of link addresses speak at an outstation, and whether several masters use one of them.

use super::tally::{Stamp, Tally};
use std::net::SocketAddr;

/// Pairs told apart at one server.
const MAX_PAIRS: usize = 64;
/// Masters of one pair that are remembered, the latest ones.
const MAX_MASTERS: usize = 8;
/// Masters that a message names.
const MAX_NAMED: usize = 4;
/// Taking over and giving back once is no more than that.
const TURNS_AT_LEAST: u64 = 2;

/// One pair.
#[derive(Debug)]
struct Pair {
    /// Master, outstation.
    link: (u16, u16),
    /// Its messages, the first and the latest of them.
    messages: u64,
    first: Stamp,
    latest: Stamp,
    /// Who spoke as its master, and when last; the latest comes last.
    masters: Vec<(SocketAddr, i64)>,
    /// How often one spoke again after another had.
    turns: Tally,
    /// Those who did.
    named: Vec<SocketAddr>,
}

/// The pairs of one server.
#[derive(Debug, Default)]
pub(super) struct LinkUse {
    pairs: Vec<Pair>,
}

impl LinkUse {
    fn pair(&mut self, link: (u16, u16), stamp: Stamp) -> Option<&mut Pair> {
        let at = match self.pairs.iter().position(|pair| pair.link == link) {
            Some(at) => at,
            None if self.pairs.len() < MAX_PAIRS => {
                let (masters, named) = (Vec::new(), Vec::new());
                self.pairs.push(Pair { link, messages: 0, first: stamp, latest: stamp, masters, turns: Tally::default(), named });
                self.pairs.len() - 1
            }
            None => return None,
        };
        let pair = self.pairs.get_mut(at)?;
        pair.messages += 1;
        pair.latest = stamp;
        Some(pair)
    }

    /// An outstation speaks.
    pub fn answered(&mut self, link: (u16, u16), stamp: Stamp) {
        self.pair(link, stamp);
    }

    /// A master speaks. Another host is another master; another connection of the same host is one only when the earlier one speaks
    /// again: else it has taken its place. One that speaks again within `together_ns` of its last message, with another one between, is not
    /// one that took over in good order.
    pub fn asked(&mut self, link: (u16, u16), master: SocketAddr, stamp: Stamp, together_ns: i64) {
        let Some(pair) = self.pair(link, stamp) else { return };
        let (latest, spoke_at) = match pair.masters.last_mut() {
            Some((latest, spoke_at)) if *latest == master => {
                *spoke_at = stamp.at;
                return;
            }
            Some(latest) => *latest,
            None => {
                pair.masters.push((master, stamp.at));
                return;
            }
        };
        let is_other_host = latest.ip() != master.ip();
        let is_same = |known: SocketAddr| if is_other_host { known.ip() == master.ip() } else { known == master };
        let before = pair.masters.iter().rev().find(|(known, _)| is_same(*known)).map(|(_, at)| *at);
        if before.is_some_and(|before| stamp.at.saturating_sub(before) <= together_ns && spoke_at >= before) {
            pair.turns.add(stamp);
            for named in [latest, master] {
                let is_named =
                    pair.named.iter().any(|known| if is_other_host { known.ip() == named.ip() } else { *known == named });
                if !is_named && pair.named.len() < MAX_NAMED {
                    pair.named.push(named);
                }
            }
        }
        pair.masters.retain(|(known, _)| *known != master);
        if pair.masters.len() == MAX_MASTERS {
            pair.masters.remove(0);
        }
        pair.masters.push((master, stamp.at));
    }

    /// The pairs that were seen: master, outstation.
    pub fn links(&self) -> impl Iterator<Item = (u16, u16)> {
        self.pairs.iter().map(|pair| pair.link)
    }

    /// The messages of the pairs that `which` holds for.
    pub fn messages(&self, which: impl Fn(&(u16, u16)) -> bool) -> Tally {
        let mut all = Tally::default();
        let pairs = self.pairs.iter().filter(|pair| which(&pair.link));
        pairs.for_each(|pair| all.merge(&Tally::between(pair.messages, [pair.first, pair.latest])));
        all
    }

    /// A pair that several masters use at the same time: who they are, and how often they took turns.
    pub fn shared(&self) -> Option<((u16, u16), Vec<String>, &Tally)> {
        let pair = self.pairs.iter().filter(|pair| pair.turns.count >= TURNS_AT_LEAST).max_by_key(|pair| pair.turns.count)?;
        let hosts_differ =
            pair.named.iter().enumerate().all(|(at, one)| pair.named.iter().skip(at + 1).all(|other| one.ip() != other.ip()));
        let name = |master: &SocketAddr| if hosts_differ { master.ip().to_string() } else { master.to_string() };
        Some((pair.link, pair.named.iter().map(name).collect(), &pair.turns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: (u16, u16) = (1, 10);
    const MINUTE: i64 = 60_000_000_000;

    /// Who speaks as the master of one pair, and at which second.
    fn spoken(turns: &[(&str, i64)]) -> Option<(Vec<String>, u64)> {
        spoken_within(turns, MINUTE)
    }

    fn spoken_within(turns: &[(&str, i64)], together_ns: i64) -> Option<(Vec<String>, u64)> {
        let mut links = LinkUse::default();
        for (number, (master, second)) in (1..).zip(turns) {
            links.asked(LINK, master.parse().unwrap(), Stamp { number, at: second * 1_000_000_000 }, together_ns);
        }
        links.shared().map(|(link, masters, turns)| {
            assert_eq!(link, LINK);
            (masters, turns.count)
        })
    }

    fn named(names: &[&str], turns: u64) -> Option<(Vec<String>, u64)> {
        Some((names.iter().map(ToString::to_string).collect(), turns))
    }

    #[test]
    fn two_hosts_in_turn_are_two_masters() {
        let turns = [("10.0.0.1:40000", 0), ("10.0.0.2:40000", 1), ("10.0.0.1:40000", 2), ("10.0.0.2:40000", 3)];
        assert_eq!(spoken(&turns), named(&["10.0.0.2", "10.0.0.1"], 2));
        // Each throws the other out, and connects again from another port.
        let turns = [("10.0.0.1:40000", 0), ("10.0.0.2:40000", 1), ("10.0.0.1:40001", 2), ("10.0.0.2:40001", 3)];
        assert_eq!(spoken(&turns), named(&["10.0.0.2", "10.0.0.1"], 2));
    }

    #[test]
    fn two_connections_of_one_host_in_turn_are_two_masters() {
        let turns = [("10.0.0.1:40000", 0), ("10.0.0.1:40001", 1), ("10.0.0.1:40000", 2), ("10.0.0.1:40001", 3)];
        assert_eq!(spoken(&turns), named(&["10.0.0.1:40001", "10.0.0.1:40000"], 2));
    }

    #[test]
    fn a_reconnect_and_a_change_to_the_other_master_and_back_are_none() {
        assert_eq!(spoken(&[("10.0.0.1:40000", 0), ("10.0.0.1:40001", 1), ("10.0.0.1:40002", 2), ("10.0.0.1:40003", 3)]), None);
        assert_eq!(spoken(&[("10.0.0.1:40000", 0), ("10.0.0.1:40000", 9), ("10.0.0.2:40000", 20), ("10.0.0.2:40000", 90)]), None);
        let hours = 3600;
        let back_and_forth = [("10.0.0.1:1", 0), ("10.0.0.2:1", hours), ("10.0.0.1:2", 2 * hours), ("10.0.0.2:2", 3 * hours)];
        assert_eq!(spoken(&back_and_forth), None);
        assert!(spoken_within(&back_and_forth, 3 * hours * 1_000_000_000).is_some(), "the site says what is good order");
    }

    #[test]
    fn memory_is_bounded() {
        let mut links = LinkUse::default();
        for number in 0..1_000_u16 {
            links.answered((number, 10), Stamp { number: 1, at: 0 });
            links.asked((0, 10), SocketAddr::from(([10, 0, 0, 1], number)), Stamp { number: 1, at: 0 }, MINUTE);
        }
        assert_eq!((links.links().count(), links.pairs[0].masters.len()), (MAX_PAIRS, MAX_MASTERS));
    }
}
