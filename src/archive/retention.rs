//! Which snapshots go, and whether there is room to record: plain functions.

use std::{fmt, time::Duration};

/// A snapshot on disk, as far as its keeping goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub snapshot_id: String,
    /// What it takes.
    pub bytes: u64,
    /// When it was closed.
    pub closed_unix_ns: i64,
    /// Whether it is in the archive, and not only kept for a while.
    pub archived: bool,
    /// Whether it stays whatever happens.
    pub pinned: bool,
    /// Whether its files are held elsewhere, too, so that removing it makes no room.
    pub held: bool,
}

/// How long and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long clean ones are kept.
    pub clean_retention: Duration,
    /// How long those in the archive are.
    pub archive_max_age: Duration,
    /// How much the archive may take; pinned ones count.
    pub archive_max_bytes: u64,
    /// How many snapshots there may be, of whatever kind: each takes memory.
    pub max_snapshots: usize,
    /// The disk room that is never used.
    pub min_free_bytes: u64,
    /// Whether the clock is trusted enough to delete from the archive what is too old by it.
    pub is_clock_sure: bool,
}

/// A time before this (2020) was told by a clock that had not been set: how old something is by it is not known.
const CLOCKS_ARE_SET_UNIX_NS: i64 = 1_577_836_800_000_000_000;

/// Why a snapshot goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is older than its kind is kept.
    Age,
    /// The archive takes more than it may.
    ArchiveFull,
    /// There are more than there may be.
    TooMany,
    /// The disk has less room than it must.
    DiskFull,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Age => "it is older than its kind is kept",
            Self::ArchiveFull => "the archive takes more than it may",
            Self::TooMany => "there are more snapshots than there may be",
            Self::DiskFull => "the disk has less room than it must",
        })
    }
}

/// A snapshot that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Its name.
    pub snapshot_id: String,
    /// Why.
    pub why: Why,
}

/// The snapshots that go now, with `free_bytes` of room: first what is too old, then the oldest of the archive until it fits, then, while
/// there are too many or the disk has too little room, clean ones and after them archived ones, oldest first. Never a pinned one, never
/// the newest of all, never more than needed. What was closed in the future, by a clock that was set, counts as closed now; what was
/// closed by a clock that had not been set yet stays in the archive whatever its age.
pub fn to_remove(stored: &[Stored], now_unix_ns: i64, free_bytes: u64, limits: &Limits) -> Vec<Removal> {
    let mut oldest_first: Vec<&Stored> = stored.iter().collect();
    oldest_first.sort_by(|a, b| (a.closed_unix_ns, &a.snapshot_id).cmp(&(b.closed_unix_ns, &b.snapshot_id)));
    oldest_first.pop();
    oldest_first.retain(|stored| !stored.pinned);

    let mut removed = Vec::new();
    let mut freed = 0_u64;
    let mut archive_bytes: u64 =
        stored.iter().filter(|stored| stored.archived).fold(0, |sum, stored| sum.saturating_add(stored.bytes));
    let too_many = stored.len().saturating_sub(limits.max_snapshots);
    let mut take = |left: &mut Vec<&Stored>, why, must: &mut dyn FnMut(&Stored, usize, u64, u64) -> bool| {
        left.retain(|stored| {
            let goes = must(stored, removed.len(), archive_bytes, freed);
            if goes {
                freed = freed.saturating_add(if stored.held { 0 } else { stored.bytes });
                archive_bytes -= if stored.archived { stored.bytes.min(archive_bytes) } else { 0 };
                removed.push(Removal { snapshot_id: stored.snapshot_id.clone(), why });
            }
            !goes
        });
    };
    take(&mut oldest_first, Why::Age, &mut |stored, _, _, _| {
        let age = Duration::from_nanos(u64::try_from(now_unix_ns.saturating_sub(stored.closed_unix_ns)).unwrap_or(0));
        let is_known = limits.is_clock_sure && stored.closed_unix_ns >= CLOCKS_ARE_SET_UNIX_NS;
        if stored.archived { is_known && age >= limits.archive_max_age } else { age >= limits.clean_retention }
    });
    take(&mut oldest_first, Why::ArchiveFull, &mut |stored, _, archive_bytes, _| {
        stored.archived && archive_bytes > limits.archive_max_bytes
    });
    for archived in [false, true] {
        take(&mut oldest_first, Why::TooMany, &mut |stored, gone, _, _| stored.archived == archived && gone < too_many);
    }
    for archived in [false, true] {
        take(&mut oldest_first, Why::DiskFull, &mut |stored, _, _, freed| {
            stored.archived == archived && !stored.held && free_bytes.saturating_add(freed) < limits.min_free_bytes
        });
    }
    removed
}

/// The room that is never used on a disk of `disk_bytes`: so many bytes, or so much of the disk, whichever is more.
pub fn floor_bytes(min_free_bytes: u64, min_free_percent: f64, disk_bytes: u64) -> u64 {
    min_free_bytes.max((disk_bytes as f64 * min_free_percent / 100.0) as u64)
}

/// What an open recording may write between a look at the room and the writing that follows it.
const WRITTEN_BETWEEN_LOOKS: u64 = 512 * 1024;

/// The room that filing leaves: more than the floor, for so many open recordings write at the same time.
pub fn filing_floor_bytes(min_free_bytes: u64, open: usize) -> u64 {
    min_free_bytes.saturating_add(WRITTEN_BETWEEN_LOOKS.saturating_mul(open as u64 + 1))
}

/// The room that deleting sees to: somewhat more than the floor, than what a pause ends at, and than what filing leaves, and enough for
/// twice what the open recordings have grown by since the last time (`growth_bytes`), so that what need not be kept goes before recording
/// has to pause.
pub fn comfort_bytes(min_free_bytes: u64, open: usize, growth_bytes: u64) -> u64 {
    let ahead = filing_floor_bytes(min_free_bytes, open).saturating_sub(min_free_bytes).saturating_mul(2);
    let spare = (min_free_bytes / 5).max(ahead);
    min_free_bytes.saturating_add(spare).saturating_add(growth_bytes.saturating_mul(2))
}

/// The room that is needed to record: who has paused waits for a tenth more, so that recording does not flutter.
pub fn needed_bytes(min_free_bytes: u64, paused: bool) -> u64 {
    if paused { min_free_bytes.saturating_add(min_free_bytes / 10) } else { min_free_bytes }
}

/// Whether there is room to record.
pub fn may_record(free_bytes: u64, min_free_bytes: u64, paused: bool) -> bool {
    free_bytes >= needed_bytes(min_free_bytes, paused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        clean_retention: Duration::from_secs(3600),
        archive_max_age: Duration::from_secs(86_400),
        archive_max_bytes: 1000,
        max_snapshots: 1000,
        min_free_bytes: 500,
        is_clock_sure: true,
    };
    /// Some day at which clocks are set.
    const DAY_S: i64 = 1_700_000_000;

    fn stored(name: &str, closed_s: i64, bytes: u64, archived: bool) -> Stored {
        Stored {
            snapshot_id: name.into(),
            bytes,
            closed_unix_ns: (DAY_S + closed_s) * 1_000_000_000,
            archived,
            pinned: false,
            held: false,
        }
    }

    fn removed(stored: &[Stored], now_s: i64, free: u64) -> Vec<(String, Why)> {
        let removed = to_remove(stored, (DAY_S + now_s) * 1_000_000_000, free, &LIMITS);
        removed.into_iter().map(|removal| (removal.snapshot_id, removal.why)).collect()
    }

    #[test]
    fn each_kind_has_its_age() {
        let all = [stored("a", 0, 1, false), stored("b", 0, 1, true), stored("c", 4000, 1, false)];
        assert_eq!(removed(&all, 3599, 9999), []);
        assert_eq!(removed(&all, 3600, 9999), [("a".into(), Why::Age)]);
        assert_eq!(removed(&all, 90_000, 9999), [("a".into(), Why::Age), ("b".into(), Why::Age)]);
        assert_eq!(removed(&[stored("future", 9000, 1, false), all[2].clone(), all[0].clone()], 3700, 9999).len(), 1);
    }

    #[test]
    fn a_full_archive_loses_its_oldest_and_pinned_ones_stay() {
        let mut all = [stored("a", 0, 600, true), stored("b", 1, 600, true), stored("c", 2, 600, true), stored("d", 3, 10, false)];
        assert_eq!(removed(&all, 10, 9999), [("a".into(), Why::ArchiveFull), ("b".into(), Why::ArchiveFull)]);
        all[0].pinned = true;
        assert_eq!(removed(&all, 10, 9999), [("b".into(), Why::ArchiveFull), ("c".into(), Why::ArchiveFull)]);
    }

    #[test]
    fn below_the_floor_clean_ones_go_first() {
        let all = [stored("a", 0, 100, true), stored("b", 1, 100, false), stored("c", 2, 100, false), stored("d", 3, 100, true)];
        assert_eq!(removed(&all, 10, 450), [("b".into(), Why::DiskFull)]);
        assert_eq!(removed(&all, 10, 250).len(), 3);
        assert_eq!(removed(&all, 10, 0).last(), Some(&("a".into(), Why::DiskFull)), "the newest stays");
    }

    #[test]
    fn the_floor_is_the_larger_of_the_two() {
        assert_eq!((floor_bytes(500, 5.0, 1000), floor_bytes(500, 5.0, 100_000), floor_bytes(7, 0.0, 100_000)), (500, 5000, 7));
    }

    #[test]
    fn recording_does_not_flutter_at_the_floor() {
        assert!(may_record(1000, 1000, false) && !may_record(999, 1000, false));
        assert!(!may_record(1099, 1000, true) && may_record(1100, 1000, true));
    }

    #[test]
    fn what_is_deleted_lets_recording_go_on() {
        for floor in [0, 1, 9, 10, 1 << 30, u64::MAX] {
            for (open, growth) in [(0, 0), (3, 0), (1, 3_000_000), (300, u64::MAX)] {
                let comfort = comfort_bytes(floor, open, growth);
                assert!(may_record(comfort, floor, true), "{floor}");
                assert!(comfort >= filing_floor_bytes(floor, open), "{floor}: nothing could be filed");
            }
        }
    }

    #[test]
    fn there_are_only_so_many_and_clean_ones_go_first() {
        let all = [stored("a", 0, 1, true), stored("b", 1, 1, false), stored("c", 2, 1, false), stored("d", 3, 1, true)];
        let gone = |max_snapshots| {
            let limits = Limits { max_snapshots, ..LIMITS };
            let removed = to_remove(&all, (DAY_S + 10) * 1_000_000_000, 9999, &limits);
            assert!(removed.iter().all(|removal| removal.why == Why::TooMany));
            removed.into_iter().map(|removal| removal.snapshot_id).collect::<String>()
        };
        assert_eq!([gone(4), gone(3), gone(2), gone(1), gone(0)], ["", "b", "bc", "bca", "bca"].map(str::to_owned));
    }

    #[test]
    fn what_a_clock_says_that_is_not_sure_empties_no_archive() {
        let all = [stored("a", 0, 1, true), stored("b", 0, 1, false), stored("c", 1, 1, true)];
        let now = (DAY_S + 90_000) * 1_000_000_000;
        let gone = |limits: &Limits| to_remove(&all, now, 9999, limits).into_iter().map(|one| one.snapshot_id).collect::<String>();
        assert_eq!((gone(&LIMITS), gone(&Limits { is_clock_sure: false, ..LIMITS })), ("ab".to_owned(), "b".to_owned()));
        // Recorded when the controller had just been switched on, and had no time yet.
        let unset = Stored { closed_unix_ns: 60_000_000_000, ..stored("x", 0, 900, true) };
        assert!(to_remove(&[unset.clone(), all[2].clone()], now, 9999, &LIMITS).is_empty());
        assert_eq!(to_remove(&[unset, stored("y", 0, 900, true)], now, 9999, &LIMITS)[0].why, Why::ArchiveFull);
    }

    proptest! {
        /// Recordings and filing look at the room, each for itself, and write a moment later.
        #[test]
        fn the_floor_is_not_crossed_whatever_comes_between_a_look_and_its_writing(
            steps in prop::collection::vec((0_usize..5, 1_u64..256 * 1024, 0_u8..10), 1..400), room in 0_u64..40_000_000,
        ) {
            let (floor, open) = (10_000_000_u64, 3);
            let mut free = floor + room;
            // What filing, and what each recording, has looked for and not written yet; and what recordings wrote since filing looked.
            let (mut filing, mut recordings, mut between) = (None::<u64>, [None::<u64>; 3], [0_u64; 3]);
            for (actor, bytes, removes) in steps {
                match actor {
                    4 if removes == 0 => free += 1_000_000,
                    3 | 4 => match filing.take() {
                        Some(bytes) => free -= bytes,
                        None if free.saturating_sub(filing_floor_bytes(floor, open)) >= bytes => (filing, between) = (Some(bytes), [0; 3]),
                        None => {}
                    },
                    index => match recordings[index].take() {
                        // The disk is slow for all: between the look of filing and its writing nobody writes more than this.
                        Some(bytes) if filing.is_none() || between[index] + bytes <= WRITTEN_BETWEEN_LOOKS => {
                            free -= bytes;
                            between[index] += bytes;
                        }
                        // One capture thread: it looks when the others have written.
                        None if recordings.iter().all(Option::is_none) && free >= floor + bytes => recordings[index] = Some(bytes),
                        waits => recordings[index] = waits,
                    },
                }
                prop_assert!(free >= floor, "{} bytes of the floor are used", floor - free);
            }
        }

        #[test]
        fn never_the_newest_the_pinned_or_more_than_needed(
            kinds in prop::collection::vec(
                (0_i64..100_000, 0_u64..500, any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.3)), 0..40),
            now_s in 0_i64..200_000,
            free in 0_u64..2000,
            max_snapshots in 0_usize..50,
        ) {
            let all: Vec<Stored> = kinds.iter().enumerate().map(|(index, (closed_s, bytes, archived, pinned, held))| {
                Stored { pinned: *pinned, held: *held, ..stored(&format!("{index:03}"), *closed_s, *bytes, *archived) }
            }).collect();
            let now = (DAY_S + now_s) * 1_000_000_000;
            let limits = Limits { max_snapshots, ..LIMITS };
            let removals = to_remove(&all, now, free, &limits);
            let of = |id: &str| all.iter().find(|stored| stored.snapshot_id == id).unwrap();
            let newest = all.iter().max_by_key(|stored| (stored.closed_unix_ns, stored.snapshot_id.clone()));
            for removal in &removals {
                prop_assert!(!of(&removal.snapshot_id).pinned);
                prop_assert_ne!(Some(&removal.snapshot_id), newest.map(|newest| &newest.snapshot_id));
            }
            // Without the last of its kind a limit would be broken.
            let makes_room = |stored: &Stored| if stored.held { 0 } else { stored.bytes };
            let freed = |upto: usize| removals[..upto].iter().map(|removal| makes_room(of(&removal.snapshot_id))).sum::<u64>();
            let archive = |upto: usize| {
                let gone: Vec<&str> = removals[..upto].iter().map(|removal| removal.snapshot_id.as_str()).collect();
                all.iter().filter(|stored| stored.archived && !gone.contains(&stored.snapshot_id.as_str())).map(|stored| stored.bytes).sum::<u64>()
            };
            for (index, removal) in removals.iter().enumerate() {
                match removal.why {
                    Why::Age => prop_assert!(now - of(&removal.snapshot_id).closed_unix_ns >= 3_600_000_000_000),
                    Why::ArchiveFull => prop_assert!(archive(index) > LIMITS.archive_max_bytes),
                    Why::TooMany => prop_assert!(all.len() - index > max_snapshots),
                    Why::DiskFull => {
                        prop_assert!(free + freed(index) < LIMITS.min_free_bytes);
                        prop_assert!(!of(&removal.snapshot_id).held, "that makes no room");
                    }
                }
            }
            // What is left breaks no limit, unless nothing more may go.
            let left: Vec<Stored> = all.iter().filter(|stored| !removals.iter().any(|removal| removal.snapshot_id == stored.snapshot_id)).cloned().collect();
            prop_assert!(to_remove(&left, now, free + freed(removals.len()), &limits).is_empty());
        }
    }
}
