//! By which interfaces the endpoints are reached, also while one of them has lost its link: a plain function of what the kernel says now
//! and of what it said before.

use std::collections::{BTreeMap, BTreeSet};

/// The interfaces of each endpoint.
///
/// An interface that is switched off loses its routes, and one that is unplugged its addresses: the kernel then names another way to the
/// endpoint, or none. What comes when the link is back is what an engineer wants to see, so the former way stays wanted.
#[derive(Debug, Clone, Default)]
pub struct Ways {
    by_endpoint: BTreeMap<String, BTreeSet<String>>,
}

impl Ways {
    /// Takes the present ways of all endpoints; gives the interfaces to record. A former way of an endpoint stays while its interface is
    /// down, and while there is no other way.
    pub fn take(&mut self, now: impl IntoIterator<Item = (String, Vec<String>)>, is_down: impl Fn(&str) -> bool) -> Vec<String> {
        let mut former = std::mem::take(&mut self.by_endpoint);
        for (endpoint_id, present) in now {
            let mut ways = former.remove(&endpoint_id).unwrap_or_default();
            if !present.is_empty() {
                ways.retain(|way| is_down(way));
            }
            ways.extend(present);
            self.by_endpoint.insert(endpoint_id, ways);
        }
        let all: BTreeSet<&String> = self.by_endpoint.values().flatten().collect();
        all.into_iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(ways: &mut Ways, now: &[(&str, &[&str])], down: &[&str]) -> Vec<String> {
        let now = now.iter().map(|(id, names)| ((*id).to_owned(), names.iter().map(|name| (*name).to_owned()).collect()));
        ways.take(now, |name| down.contains(&name))
    }

    #[test]
    fn a_way_that_is_lost_stays_until_there_is_another_or_nobody_needs_it() {
        let mut ways = Ways::default();
        assert_eq!(take(&mut ways, &[("bms", &["e0"]), ("meter", &["e1"])], &[]), ["e0", "e1"]);
        assert_eq!(take(&mut ways, &[("bms", &[]), ("meter", &["e1"])], &["e0"]), ["e0", "e1"], "e0 is down");
        assert_eq!(take(&mut ways, &[("bms", &[]), ("meter", &["e1"])], &[]), ["e0", "e1"], "it is up and has no address yet");
        assert_eq!(
            take(&mut ways, &[("bms", &["e1"]), ("meter", &["e1"])], &["e0"]),
            ["e0", "e1"],
            "a default route leads elsewhere"
        );
        assert_eq!(take(&mut ways, &[("bms", &["e0"]), ("meter", &["e1"])], &[]), ["e0", "e1"]);
        assert_eq!(take(&mut ways, &[("bms", &["e2"]), ("meter", &["e1"])], &[]), ["e1", "e2"], "it was moved for good");
        assert_eq!(take(&mut ways, &[("bms", &[]), ("meter", &[])], &[]), ["e1", "e2"], "all interfaces are gone");
        assert_eq!(take(&mut ways, &[("meter", &[])], &[]), ["e1"], "the config of one is gone");
        assert!(take(&mut ways, &[], &["e1"]).is_empty());
    }

    #[test]
    fn interfaces_that_come_and_go_do_not_gather() {
        let mut ways = Ways::default();
        for number in 0..100 {
            let name = format!("veth{number}");
            assert_eq!(take(&mut ways, &[("listen", &["e0", &name])], &[]), ["e0".to_owned(), name]);
        }
    }

    proptest! {
        #[test]
        fn what_leads_to_an_endpoint_now_is_always_recorded(
            steps in prop::collection::vec((prop::collection::btree_map("[ab]", prop::collection::vec("[xyz]", 0..3), 0..3), "[xyz]{0,2}"), 1..20)
        ) {
            let mut ways = Ways::default();
            for (now, down) in steps {
                let wanted = ways.take(now.clone(), |name| down.contains(name));
                for name in now.values().flatten() {
                    prop_assert!(wanted.contains(name));
                }
                prop_assert!(now.is_empty() == wanted.is_empty() || !now.is_empty());
            }
        }
    }
}
