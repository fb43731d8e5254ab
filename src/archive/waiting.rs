//! Which of the snapshots that wait for a sink are given up when the disk is full: a plain function.

use super::Stored;

/// A snapshot in the queues of the sinks, as far as its room goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its name; names sort by age.
    pub snapshot_id: String,
    /// What it takes, once for all queues, for they have the same files.
    pub bytes: u64,
    /// Whether it is on its way to some sink.
    pub is_sending: bool,
}

/// What is given up so that the disk has `min_free_bytes` of room, when nothing that no queue holds may be deleted any more. First what
/// the archive (`stored`) has let go of, then what it may delete once no queue holds it; oldest first, and no more than needed. Never one that
/// is being sent, and never one whose files would stay all the same: pinned, the newest of all, or not in the archive.
pub fn to_give_up(waiting: &[Waiting], stored: &[Stored], free_bytes: u64, min_free_bytes: u64) -> Vec<String> {
    let newest = stored.iter().max_by_key(|stored| (stored.closed_unix_ns, &stored.snapshot_id));
    let kept = |waiting: &Waiting| stored.iter().find(|stored| stored.snapshot_id == waiting.snapshot_id);
    let stays = |stored: &Stored| stored.pinned || !stored.archived || newest.is_some_and(|newest| newest == stored);
    let mut may_go: Vec<(bool, &Waiting)> = waiting
        .iter()
        .filter(|waiting| !waiting.is_sending)
        .filter(|waiting| !kept(waiting).is_some_and(stays))
        .map(|waiting| (kept(waiting).is_some(), waiting))
        .collect();
    may_go.sort_by(|(kept, one), (other_kept, other)| (kept, &one.snapshot_id).cmp(&(other_kept, &other.snapshot_id)));
    let mut room = free_bytes;
    let needed = may_go.into_iter().take_while(|(_, waiting)| {
        let is_needed = room < min_free_bytes;
        room = room.saturating_add(waiting.bytes);
        is_needed
    });
    needed.map(|(_, waiting)| waiting.snapshot_id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waiting(name: &str, bytes: u64) -> Waiting {
        Waiting { snapshot_id: name.into(), bytes, is_sending: false }
    }

    fn stored(name: &str, closed_unix_ns: i64) -> Stored {
        Stored { snapshot_id: name.into(), bytes: 10, closed_unix_ns, archived: true, pinned: false, held: true }
    }

    #[test]
    fn what_only_waits_goes_before_what_the_archive_has_too() {
        let all = ["a", "b", "c", "d"].map(|name| waiting(name, 10));
        let kept = [stored("a", 1), stored("c", 3), stored("d", 4)];
        assert!(to_give_up(&all, &kept, 100, 100).is_empty());
        assert_eq!(to_give_up(&all, &kept, 95, 100), ["b"]);
        assert_eq!(to_give_up(&all, &kept, 85, 100), ["b", "a"]);
        assert_eq!(to_give_up(&all, &kept, 0, 100), ["b", "a", "c"], "the newest stays");
    }

    #[test]
    fn what_would_stay_all_the_same_and_what_is_on_its_way_is_kept() {
        let mut all = ["a", "b", "c"].map(|name| waiting(name, 10));
        all[2].is_sending = true;
        let kept = [Stored { pinned: true, ..stored("a", 1) }, Stored { archived: false, ..stored("b", 2) }, stored("z", 9)];
        assert!(to_give_up(&all, &kept, 0, 100).is_empty());
    }

    proptest! {
        #[test]
        fn never_more_than_needed_and_oldest_first(
            kinds in prop::collection::vec((0_u64..200, prop::bool::weighted(0.2), 0_u8..4), 0..30), free in 0_u64..2000, floor in 0_u64..2000,
        ) {
            let name = |index: usize| format!("{index:03}");
            let all: Vec<Waiting> = kinds.iter().enumerate()
                .map(|(index, (bytes, is_sending, _))| Waiting { is_sending: *is_sending, ..waiting(&name(index), *bytes) }).collect();
            let kept: Vec<Stored> = kinds.iter().enumerate().filter(|(_, (_, _, kind))| *kind > 0)
                .map(|(index, (_, _, kind))| Stored { pinned: *kind == 2, archived: *kind != 3, ..stored(&name(index), index as i64) }).collect();
            let given_up = to_give_up(&all, &kept, free, floor);
            let of = |id: &String| all.iter().find(|waiting| waiting.snapshot_id == *id).unwrap();
            let in_archive = |id: &String| kept.iter().find(|stored| stored.snapshot_id == *id);
            let mut room = free;
            for id in &given_up {
                prop_assert!(room < floor, "{} went without need", id);
                prop_assert!(!of(id).is_sending && in_archive(id).is_none_or(|stored| stored.archived && !stored.pinned));
                prop_assert!(in_archive(id).is_none_or(|stored| Some(stored) != kept.last()), "the newest went");
                room += of(id).bytes;
            }
            let order: Vec<_> = given_up.iter().map(|id| (in_archive(id).is_some(), id)).collect();
            prop_assert!(order.is_sorted());
            // Either there is room now, or nothing more may go.
            let left: Vec<Waiting> = all.iter().filter(|waiting| !given_up.contains(&waiting.snapshot_id)).cloned().collect();
            prop_assert!(room >= floor || to_give_up(&left, &kept, room, floor).is_empty());
        }
    }
}
