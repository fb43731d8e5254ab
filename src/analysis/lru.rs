//! A map that forgets what was used longest ago when it is full, and what can be spared before all else.

use super::hasher::QuickBuild;
use hashbrown::HashTable;
use std::hash::{BuildHasher as _, Hash};

/// Where an entry lies; stable until it is forgotten or removed.
pub(super) type Slot = u32;
const NONE: Slot = Slot::MAX;

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
}

/// The entries that were used next after and next before one, of its kind.
#[derive(Debug, Clone, Copy)]
struct Links {
    newer: Slot,
    older: Slot,
    is_spare: bool,
}

/// The two ends of a chain of entries.
#[derive(Debug, Clone, Copy)]
struct Chain {
    newest: Slot,
    oldest: Slot,
}

const EMPTY: Chain = Chain { newest: NONE, oldest: NONE };

/// Entries in a vector, found by a hash table, linked from the newest to the oldest: those that can be spared, and the others.
///
/// Entries are large and there are many, so that to look at one is to wait for memory. The table holds nothing but slots, and the links
/// stand apart: both stay in the processor's cache, and finding an entry touches no other.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    table: HashTable<Slot>,
    build: QuickBuild,
    entries: Vec<Option<Entry<K, V>>>,
    /// As long as `entries`.
    links: Vec<Links>,
    free: Vec<Slot>,
    /// The slot that was used last.
    latest: Slot,
    /// The entries to be kept, and the spare ones.
    chains: [Chain; 2],
    capacity: usize,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    /// An empty map for `capacity` entries, at least one.
    pub fn new(capacity: usize) -> Self {
        Self {
            table: HashTable::new(),
            build: QuickBuild::default(),
            entries: Vec::new(),
            links: Vec::new(),
            free: Vec::new(),
            latest: NONE,
            chains: [EMPTY; 2],
            capacity: capacity.clamp(1, NONE as usize - 1),
        }
    }

    /// The slot of a key, which becomes the newest.
    pub fn find(&mut self, key: &K) -> Option<Slot> {
        // Most packets belong to the same connection as the one before.
        if self.is_at(self.latest, key) {
            return Some(self.latest);
        }
        let slot = self.slot(key)?;
        self.unlink(slot);
        self.link_newest(slot);
        self.latest = slot;
        Some(slot)
    }

    /// Whether an entry can be spared: such ones are forgotten before all others. One that changes is the newest of its kind.
    pub fn set_spare(&mut self, slot: Slot, is_spare: bool) {
        if self.links.get(slot as usize).is_some_and(|links| links.is_spare != is_spare) {
            self.unlink(slot);
            if let Some(links) = self.links.get_mut(slot as usize) {
                links.is_spare = is_spare;
            }
            self.link_newest(slot);
            self.latest = slot;
        }
    }

    /// The spare entry that was used longest ago.
    pub fn oldest_spare(&self) -> Option<Slot> {
        Some(self.chains[1].oldest).filter(|slot| *slot != NONE)
    }

    fn oldest(&self) -> Slot {
        self.oldest_spare().unwrap_or(self.chains[0].oldest)
    }

    /// Looks a key up and leaves its age alone.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.get(self.slot(key)?)
    }

    pub fn get(&self, slot: Slot) -> Option<&V> {
        self.entries.get(slot as usize)?.as_ref().map(|entry| &entry.value)
    }

    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut V> {
        self.entries.get_mut(slot as usize)?.as_mut().map(|entry| &mut entry.value)
    }

    /// Puts a new key in as the newest, to be kept; `key` must not be there. When the map is full, the oldest entry's slot is taken
    /// and its value given back.
    pub fn insert(&mut self, key: K, value: V) -> (Slot, Option<V>) {
        let forgotten = if self.len() >= self.capacity { self.remove_slot(self.oldest()) } else { None };
        let entry = Some(Entry { key, value });
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.entries.get_mut(slot as usize) {
                    *place = entry;
                }
                slot
            }
            None => {
                self.entries.push(entry);
                self.links.push(Links { newer: NONE, older: NONE, is_spare: false });
                (self.entries.len() - 1) as Slot
            }
        };
        let Self { table, build, entries, .. } = self;
        // A slot in the table has an entry.
        let hash_of =
            |slot: &Slot| entries.get(*slot as usize).and_then(Option::as_ref).map_or(0, |entry| build.hash_one(entry.key));
        table.insert_unique(build.hash_one(key), slot, hash_of);
        if let Some(links) = self.links.get_mut(slot as usize) {
            links.is_spare = false;
        }
        self.link_newest(slot);
        self.latest = slot;
        (slot, forgotten)
    }

    /// The slot that the next insertion takes from its owner, if the map is full.
    pub fn oldest_if_full(&self) -> Option<Slot> {
        (self.len() >= self.capacity).then(|| self.oldest())
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.remove_slot(self.slot(key)?)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().flatten().map(|entry| (&entry.key, &entry.value))
    }

    /// The slots in use.
    pub fn occupied(&self) -> impl Iterator<Item = Slot> {
        self.entries.iter().zip(0..).filter(|(entry, _)| entry.is_some()).map(|(_, slot)| slot)
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    fn slot(&self, key: &K) -> Option<Slot> {
        self.table.find(self.build.hash_one(key), |&slot| self.is_at(slot, key)).copied()
    }

    fn is_at(&self, slot: Slot, key: &K) -> bool {
        self.entries.get(slot as usize).and_then(Option::as_ref).is_some_and(|entry| entry.key == *key)
    }

    /// Removes the entry of a slot.
    pub fn remove_slot(&mut self, slot: Slot) -> Option<V> {
        let entry = self.entries.get_mut(slot as usize)?.take()?;
        self.unlink(slot);
        if let Ok(found) = self.table.find_entry(self.build.hash_one(entry.key), |&known| known == slot) {
            found.remove();
        }
        self.free.push(slot);
        Some(entry.value)
    }

    fn unlink(&mut self, slot: Slot) {
        let Some(&Links { newer, older, is_spare }) = self.links.get(slot as usize) else { return };
        let chain = &mut self.chains[usize::from(is_spare)];
        match self.links.get_mut(newer as usize) {
            Some(links) => links.older = older,
            None => chain.newest = older,
        }
        match self.links.get_mut(older as usize) {
            Some(links) => links.newer = newer,
            None => chain.oldest = newer,
        }
    }

    fn link_newest(&mut self, slot: Slot) {
        let Some(links) = self.links.get_mut(slot as usize) else { return };
        let chain = &mut self.chains[usize::from(links.is_spare)];
        let before = chain.newest;
        (links.newer, links.older) = (NONE, before);
        chain.newest = slot;
        match self.links.get_mut(before as usize) {
            Some(links) => links.newer = slot,
            None => chain.oldest = slot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain list, the newest last.
        #[test]
        fn behaves_like_a_list(capacity in 1_usize..6, steps in prop::collection::vec((0_u8..10, 0_u8..5), 0..200)) {
            let (mut lru, mut model) = (Lru::new(capacity), Vec::<(u8, usize, bool)>::new());
            let oldest = |model: &[(u8, usize, bool)]| model.iter().position(|(.., is_spare)| *is_spare);
            for (step, (key, action)) in steps.into_iter().enumerate() {
                let at = model.iter().position(|(known, ..)| *known == key);
                match (action, at) {
                    (0, Some(at)) => {
                        prop_assert_eq!(lru.remove(&key), Some(model.remove(at).1));
                    }
                    (_, Some(at)) => {
                        let mut entry = model.remove(at);
                        let slot = lru.find(&key).unwrap();
                        prop_assert_eq!(lru.get(slot), Some(&entry.1));
                        if action > 2 {
                            entry.2 = action == 3;
                            lru.set_spare(slot, entry.2);
                        }
                        model.push(entry);
                    }
                    (0, None) => prop_assert_eq!(lru.remove(&key), None),
                    (_, None) => {
                        let forgotten = (model.len() == capacity).then(|| model.remove(oldest(&model).unwrap_or(0)).1);
                        model.push((key, step, false));
                        prop_assert_eq!(lru.insert(key, step).1, forgotten);
                    }
                }
                prop_assert_eq!(lru.len(), model.len());
                prop_assert_eq!(lru.occupied().count(), model.len());
                let spare = lru.oldest_spare().and_then(|slot| lru.get(slot)).copied();
                prop_assert_eq!(spare, oldest(&model).map(|at| model[at].1));
            }
        }
    }
}
