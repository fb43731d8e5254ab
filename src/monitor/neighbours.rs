//! Which snapshots are archived because a suspect one is beside them: plain functions.

use std::time::Duration;

/// An earlier snapshot, as far as it may be a neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// Its name.
    pub snapshot_id: String,
    /// When it was closed.
    pub closed_unix_ns: i64,
    /// Whether it would be forgotten, and not archived already.
    pub is_temporary: bool,
}

/// Those of the last `count` snapshots before the one that was opened at `opened_unix_ns` that are to be archived with it. `earlier` are
/// the snapshots before it, newest first. What ended longer ago than `count` snapshots of the length `slot` last is no neighbour: the
/// monitor was off between.
pub fn neighbours_before(earlier: &[Earlier], opened_unix_ns: i64, count: u32, slot: Duration) -> Vec<String> {
    let reach = i64::try_from((slot * count).as_nanos()).unwrap_or(i64::MAX);
    let last = earlier.iter().take(usize::try_from(count).unwrap_or(usize::MAX));
    let near = last.filter(|one| one.closed_unix_ns >= opened_unix_ns.saturating_sub(reach));
    near.filter(|one| one.is_temporary).map(|one| one.snapshot_id.clone()).collect()
}

/// Who is waiting for its neighbours after it.
#[derive(Debug, Clone, Default)]
pub struct NeighboursAfter {
    waiting: Option<(String, u32)>,
}

impl NeighboursAfter {
    /// A suspect snapshot was archived: so many of those that follow belong to it.
    pub fn archived(&mut self, snapshot_id: &str, count: u32) {
        self.waiting = (count > 0).then(|| (snapshot_id.to_owned(), count));
    }

    /// The next snapshot is not archived for itself: the one that it belongs to, if it belongs to one.
    pub fn take(&mut self) -> Option<String> {
        let (snapshot_id, left) = self.waiting.take()?;
        self.archived(&snapshot_id, left - 1);
        Some(snapshot_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Duration = Duration::from_secs(10);

    fn earlier(name: &str, closed_s: i64, is_temporary: bool) -> Earlier {
        Earlier { snapshot_id: name.into(), closed_unix_ns: closed_s * 1_000_000_000, is_temporary }
    }

    fn before(earlier: &[Earlier], opened_s: i64, count: u32) -> Vec<String> {
        neighbours_before(earlier, opened_s * 1_000_000_000, count, SLOT)
    }

    #[test]
    fn the_last_ones_before_are_neighbours_unless_they_are_archived_already() {
        let all = [earlier("c", 101, true), earlier("b", 91, false), earlier("a", 81, true)];
        assert_eq!(before(&all, 100, 1), ["c"]);
        assert_eq!(before(&all, 100, 2), ["c"], "b is archived, and a is the third");
        assert_eq!(before(&all, 100, 3), ["c", "a"]);
        assert!(before(&all, 100, 0).is_empty());
    }

    #[test]
    fn what_was_before_a_pause_is_no_neighbour() {
        let all = [earlier("c", 50, true), earlier("b", 40, true)];
        assert!(before(&all, 100, 2).is_empty());
        assert_eq!(before(&all, 60, 1), ["c"]);
    }

    #[test]
    fn those_after_are_counted_and_a_new_suspect_takes_over() {
        let mut after = NeighboursAfter::default();
        assert_eq!(after.take(), None);
        after.archived("a", 2);
        assert_eq!((after.take(), after.take(), after.take()), (Some("a".into()), Some("a".into()), None));
        after.archived("b", 2);
        after.archived("c", 1);
        assert_eq!((after.take(), after.take()), (Some("c".into()), None));
        after.archived("d", 0);
        assert_eq!(after.take(), None);
    }
}
