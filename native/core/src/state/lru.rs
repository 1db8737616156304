//! Keys in the order in which they were touched, so that the one that was touched longest ago can go first.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// No node.
const NONE: u32 = u32::MAX;

/// Keys with their values, fewer than 2^32.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    /// Where in `nodes` each key is.
    places: HashTable<u32>,
    nodes: Vec<Node<K, V>>,
    oldest: u32,
    newest: u32,
    hasher: DefaultHashBuilder,
}

#[derive(Debug)]
struct Node<K, V> {
    key: K,
    value: V,
    older: u32,
    newer: u32,
}

impl<K: Eq + Hash, V> Lru<K, V> {
    pub(super) fn new() -> Self {
        Self {
            places: HashTable::new(),
            nodes: Vec::new(),
            oldest: NONE,
            newest: NONE,
            hasher: DefaultHashBuilder::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Where a key is, until the next one is put or removed.
    pub(super) fn find(&self, key: &K) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.places
            .find(hash, |place| self.nodes[*place as usize].key == *key)
            .copied()
    }

    pub(super) fn value(&mut self, place: u32) -> &mut V {
        &mut self.nodes[place as usize].value
    }

    /// Make it the newest.
    pub(super) fn touch(&mut self, place: u32) {
        if place != self.newest {
            self.unlink(place);
            self.link(place);
        }
    }

    /// Add a key that is not here as the newest; where there are `size` the oldest goes.
    pub(super) fn push(&mut self, key: K, value: V, size: usize) {
        if self.nodes.len() >= size && self.oldest != NONE {
            self.remove(self.oldest);
        }
        let (place, hash) = (self.nodes.len() as u32, self.hasher.hash_one(&key));
        let (older, newer) = (NONE, NONE);
        self.nodes.push(Node {
            key,
            value,
            older,
            newer,
        });
        self.link(place);
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.places
            .insert_unique(hash, place, |other| hasher.hash_one(&nodes[*other as usize].key));
    }

    /// Take a key away. The last node moves to its place.
    pub(super) fn remove(&mut self, place: u32) {
        self.unlink(place);
        if let Ok(entry) = self.places.find_entry(self.hash(place), |other| *other == place) {
            entry.remove();
        }
        let last = (self.nodes.len() - 1) as u32;
        if last != place {
            let Node { older, newer, .. } = self.nodes[last as usize];
            *self.newer_of(older) = place;
            *self.older_of(newer) = place;
            if let Some(moved) = self.places.find_mut(self.hash(last), |other| *other == last) {
                *moved = place;
            }
        }
        self.nodes.swap_remove(place as usize);
    }

    /// Keep the values that `keep` says, in their order.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut V) -> bool) {
        let mut place = self.oldest;
        while place != NONE {
            let node = &mut self.nodes[place as usize];
            let mut newer = node.newer;
            if !keep(&mut node.value) {
                // The node that moves may be the next one.
                if newer as usize == self.nodes.len() - 1 {
                    newer = place;
                }
                self.remove(place);
            }
            place = newer;
        }
    }

    fn hash(&self, place: u32) -> u64 {
        self.hasher.hash_one(&self.nodes[place as usize].key)
    }

    fn link(&mut self, place: u32) {
        let older = std::mem::replace(&mut self.newest, place);
        let node = &mut self.nodes[place as usize];
        (node.older, node.newer) = (older, NONE);
        if older == NONE {
            self.oldest = place;
        } else {
            self.nodes[older as usize].newer = place;
        }
    }

    fn unlink(&mut self, place: u32) {
        let Node { older, newer, .. } = self.nodes[place as usize];
        *self.newer_of(older) = newer;
        *self.older_of(newer) = older;
    }

    /// What follows a node; of none: the first of all.
    fn newer_of(&mut self, place: u32) -> &mut u32 {
        match place {
            NONE => &mut self.oldest,
            place => &mut self.nodes[place as usize].newer,
        }
    }

    /// What precedes a node; of none: the last of all.
    fn older_of(&mut self, place: u32) -> &mut u32 {
        match place {
            NONE => &mut self.newest,
            place => &mut self.nodes[place as usize].older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8),
        Touch(u8),
        Remove(u8),
        Retain(u8),
    }

    fn oldest_first(found: &Lru<u8, u8>) -> Vec<(u8, u8)> {
        let (mut place, mut order) = (found.oldest, Vec::new());
        while place != NONE {
            let node = &found.nodes[place as usize];
            order.push((node.key, node.value));
            place = node.newer;
        }
        order
    }

    proptest! {
        #[test]
        fn like_a_list(
            size in 1..12_usize,
            steps in prop::collection::vec(
                prop_oneof![
                    6 => (0..20_u8).prop_map(Step::Put),
                    6 => (0..20_u8).prop_map(Step::Touch),
                    3 => (0..20_u8).prop_map(Step::Remove),
                    1 => (0..5_u8).prop_map(Step::Retain),
                ],
                0..300,
            ),
        ) {
            let (mut found, mut plain) = (Lru::new(), Vec::<(u8, u8)>::new());
            for (value, step) in (0..=u8::MAX).cycle().zip(steps) {
                match step {
                    Step::Put(key) => if let Some(place) = found.find(&key) {
                        *found.value(place) = value;
                        plain.iter_mut().filter(|(other, _)| *other == key).for_each(|each| each.1 = value);
                    } else {
                        found.push(key, value, size);
                        plain.drain(..usize::from(plain.len() >= size));
                        plain.push((key, value));
                    },
                    Step::Touch(key) => if let Some(place) = found.find(&key) {
                        found.touch(place);
                        let moved: Vec<_> = plain.extract_if(.., |(other, _)| *other == key).collect();
                        plain.extend(moved);
                    },
                    Step::Remove(key) => if let Some(place) = found.find(&key) {
                        found.remove(place);
                        plain.retain(|(other, _)| *other != key);
                    },
                    Step::Retain(part) => {
                        found.retain(|value| { *value /= 2; *value % 5 >= part });
                        plain.retain_mut(|(_, value)| { *value /= 2; *value % 5 >= part });
                    }
                }
                prop_assert_eq!(oldest_first(&found), plain.clone());
                prop_assert_eq!(found.len(), plain.len());
                for key in 0..20 {
                    let place = found.find(&key);
                    let value = place.map(|place| *found.value(place));
                    prop_assert_eq!(value, plain.iter().find(|(other, _)| *other == key).map(|each| each.1));
                }
            }
        }
    }
}
