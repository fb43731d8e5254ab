//! A map that forgets what was used longest ago when it is full.

use super::hasher::QuickBuild;
use std::{collections::HashMap, hash::Hash};

/// Where an entry lies; stable until it is forgotten or removed.
pub(super) type Slot = u32;
const NONE: Slot = Slot::MAX;

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    newer: Slot,
    older: Slot,
}

/// Entries in a vector, found by a hash map, linked from the newest to the oldest.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    slots: HashMap<K, Slot, QuickBuild>,
    entries: Vec<Option<Entry<K, V>>>,
    free: Vec<Slot>,
    newest: Slot,
    oldest: Slot,
    capacity: usize,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    /// An empty map for `capacity` entries, at least one.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, NONE as usize - 1);
        Self { slots: HashMap::default(), entries: Vec::new(), free: Vec::new(), newest: NONE, oldest: NONE, capacity }
    }

    /// The slot of a key, which becomes the newest.
    pub fn find(&mut self, key: &K) -> Option<Slot> {
        let slot = *self.slots.get(key)?;
        if self.newest != slot {
            self.unlink(slot);
            self.link_newest(slot);
        }
        Some(slot)
    }

    /// Looks a key up and leaves its age alone.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.get(*self.slots.get(key)?)
    }

    pub fn get(&self, slot: Slot) -> Option<&V> {
        self.entries.get(slot as usize)?.as_ref().map(|entry| &entry.value)
    }

    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut V> {
        self.entries.get_mut(slot as usize)?.as_mut().map(|entry| &mut entry.value)
    }

    /// Puts a new key in as the newest; `key` must not be there. When the map is full, the oldest entry's slot is taken and its
    /// value given back.
    pub fn insert(&mut self, key: K, value: V) -> (Slot, Option<V>) {
        let forgotten = if self.slots.len() >= self.capacity { self.remove_slot(self.oldest) } else { None };
        let entry = Some(Entry { key, value, newer: NONE, older: NONE });
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.entries.get_mut(slot as usize) {
                    *place = entry;
                }
                slot
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as Slot
            }
        };
        self.slots.insert(key, slot);
        self.link_newest(slot);
        (slot, forgotten)
    }

    /// The slot that the next insertion takes from its owner, if the map is full.
    pub fn oldest_if_full(&self) -> Option<Slot> {
        (self.slots.len() >= self.capacity).then_some(self.oldest)
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let slot = *self.slots.get(key)?;
        self.remove_slot(slot)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().flatten().map(|entry| (&entry.key, &entry.value))
    }

    /// The slots in use.
    pub fn occupied(&self) -> impl Iterator<Item = Slot> {
        self.entries.iter().zip(0..).filter(|(entry, _)| entry.is_some()).map(|(_, slot)| slot)
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    fn remove_slot(&mut self, slot: Slot) -> Option<V> {
        self.unlink(slot);
        let entry = self.entries.get_mut(slot as usize)?.take()?;
        self.slots.remove(&entry.key);
        self.free.push(slot);
        Some(entry.value)
    }

    fn entry_mut(&mut self, slot: Slot) -> Option<&mut Entry<K, V>> {
        self.entries.get_mut(slot as usize)?.as_mut()
    }

    fn unlink(&mut self, slot: Slot) {
        let Some((newer, older)) = self.entry_mut(slot).map(|entry| (entry.newer, entry.older)) else { return };
        match self.entry_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entry_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, slot: Slot) {
        let before = self.newest;
        if let Some(entry) = self.entry_mut(slot) {
            (entry.newer, entry.older) = (NONE, before);
        }
        match self.entry_mut(before) {
            Some(entry) => entry.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain list, the newest last.
        #[test]
        fn behaves_like_a_list(capacity in 1_usize..6, steps in prop::collection::vec((0_u8..10, 0_u8..3), 0..200)) {
            let (mut lru, mut model) = (Lru::new(capacity), Vec::<(u8, usize)>::new());
            for (step, (key, action)) in steps.into_iter().enumerate() {
                let at = model.iter().position(|(known, _)| *known == key);
                match (action, at) {
                    (0, Some(at)) => {
                        prop_assert_eq!(lru.remove(&key), Some(model.remove(at).1));
                    }
                    (_, Some(at)) => {
                        let entry = model.remove(at);
                        model.push(entry);
                        let slot = lru.find(&key).unwrap();
                        prop_assert_eq!(lru.get(slot), Some(&entry.1));
                    }
                    (0, None) => prop_assert_eq!(lru.remove(&key), None),
                    (_, None) => {
                        let forgotten = (model.len() == capacity).then(|| model.remove(0).1);
                        model.push((key, step));
                        prop_assert_eq!(lru.insert(key, step).1, forgotten);
                    }
                }
                prop_assert_eq!(lru.len(), model.len());
                prop_assert_eq!(lru.occupied().count(), model.len());
            }
        }
    }
}
