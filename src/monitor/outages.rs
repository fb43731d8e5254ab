//! When which interface gave no packets although they were wanted: a plain function of what is seen at each look.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// So many outages that are over are remembered.
const MAX_REMEMBERED: usize = 1024;

/// What an interface was missing for in some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// The interface.
    pub interface: String,
    /// For how long nothing could come.
    pub lost: Duration,
    /// How often that was so.
    pub times: u64,
    /// Whether it is so at the end.
    pub lasts: bool,
    /// Why, the last time.
    pub why: String,
}

/// The outages of all interfaces. Times are on a clock that is never set.
#[derive(Debug, Clone, Default)]
pub struct Outages {
    /// Those that last: since when, and why.
    lost: BTreeMap<String, (Duration, String)>,
    over: VecDeque<Over>,
}

#[derive(Debug, Clone)]
struct Over {
    interface: String,
    from: Duration,
    to: Duration,
    why: String,
}

impl Outages {
    /// Looks at all wanted interfaces at `now`: the name of each, and why no packets can come if none can. One that is not among them is
    /// not missed any more.
    pub fn look<'a>(&mut self, now: Duration, interfaces: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) {
        let mut before = std::mem::take(&mut self.lost);
        for (name, lost) in interfaces {
            match (before.remove(name), lost) {
                (before, Some(why)) => {
                    let from = before.map_or(now, |(from, _)| from);
                    self.lost.insert(name.to_owned(), (from, why.to_owned()));
                }
                (Some((from, why)), None) => self.over.push_back(Over { interface: name.to_owned(), from, to: now, why }),
                (None, None) => {}
            }
        }
        self.over.extend(before.into_iter().map(|(interface, (from, why))| Over { interface, from, to: now, why }));
        while self.over.len() > MAX_REMEMBERED {
            self.over.pop_front();
        }
    }

    /// Forgets what was over before this.
    pub fn forget(&mut self, before: Duration) {
        self.over.retain(|over| over.to >= before);
    }

    /// What was missing from one time to another.
    pub fn within(&self, from: Duration, to: Duration) -> Vec<Outage> {
        let mut found: BTreeMap<&str, Outage> = BTreeMap::new();
        let over = self.over.iter().map(|over| (over.interface.as_str(), over.from, over.to, &over.why, false));
        let lasting = self.lost.iter().map(|(interface, (began, why))| (interface.as_str(), *began, Duration::MAX, why, true));
        for (interface, began, ended, why, lasts) in
            over.chain(lasting).filter(|(_, began, ended, ..)| *began < to && *ended > from)
        {
            let outage = found.entry(interface).or_insert_with(|| Outage {
                interface: interface.to_owned(),
                lost: Duration::ZERO,
                times: 0,
                lasts: false,
                why: String::new(),
            });
            outage.lost += ended.min(to).saturating_sub(began.max(from));
            outage.times += 1;
            outage.lasts |= lasts;
            outage.why.clone_from(why);
        }
        found.into_values().collect()
    }
}

impl Outage {
    /// In words, for a recording of this length. Of the words only the name is its own, so that an outage that goes on over several
    /// recordings is known as the same.
    pub fn told(&self, of: Duration) -> String {
        let Self { interface, lost, times, lasts, why } = self;
        let often = if *times > 1 { format!(", {times} times") } else { String::new() };
        let end = if *lasts { ", and still at the end" } else { "" };
        format!("{interface}: not recorded for {} s of {} s{often}{end} ({why})", whole_seconds(*lost), whole_seconds(of))
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn an_outage_is_of_the_recordings_in_which_it_was_and_of_no_other() {
        let mut outages = Outages::default();
        outages.look(at(0), [("e0", None), ("e1", None)]);
        outages.look(at(5), [("e0", Some("the interface went down")), ("e1", None)]);
        outages.look(at(6), [("e0", Some("the interface is down")), ("e1", None)]);
        assert_eq!(
            outages.within(at(0), at(10)).iter().map(|outage| outage.told(at(10))).collect::<Vec<_>>(),
            ["e0: not recorded for 5 s of 10 s, and still at the end (the interface is down)"]
        );
        outages.look(at(20), [("e0", None), ("e1", None)]);
        outages.look(at(22), [("e0", Some("gone")), ("e1", None)]);
        outages.look(at(24), [("e0", None), ("e1", None)]);
        assert!(outages.within(at(0), at(5)).is_empty() && outages.within(at(24), at(90)).is_empty());
        let both = &outages.within(at(10), at(30))[0];
        assert_eq!((both.lost, both.times, both.lasts), (at(12), 2, false));
        assert_eq!(both.told(at(20)), "e0: not recorded for 12 s of 20 s, 2 times (gone)");
        outages.forget(at(21));
        assert_eq!(outages.within(at(0), at(30))[0].times, 1);
        outages.look(at(40), [("e1", Some("gone"))]);
        outages.look(at(50), []);
        outages.look(at(60), []);
        assert_eq!(outages.within(at(45), at(70))[0].lost, at(5), "what is not wanted is not missed");
    }

    #[test]
    fn an_interface_that_never_rests_takes_a_bounded_memory() {
        let mut outages = Outages::default();
        (0..4000).for_each(|second| outages.look(at(second), [("e0", (second % 2 == 0).then_some("gone"))]));
        assert_eq!(outages.over.len(), MAX_REMEMBERED);
    }

    proptest! {
        #[test]
        fn nothing_is_missing_for_longer_than_the_time_asked_for(
            looks in prop::collection::vec(prop::collection::vec(prop::bool::ANY, 3), 1..100), from in 0_u64..100, length in 0_u64..50
        ) {
            let mut outages = Outages::default();
            for (second, look) in (0..).zip(&looks) {
                let names = ["a", "b", "c"].iter().zip(look).map(|(name, lost)| (*name, lost.then_some("gone")));
                outages.look(at(second), names);
            }
            for outage in outages.within(at(from), at(from + length)) {
                prop_assert!(outage.lost <= at(length) && outage.times > 0, "{outage:?}");
            }
        }
    }
}
