//! Keys that are forgotten when their time comes, in bounded memory and without a look at all of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::hash::Hash;

use hashbrown::hash_map::Entry as Slot;
use hashbrown::{DefaultHashBuilder, HashMap};

/// The instant of what is never due.
pub const NEVER: i64 = i64::MAX;

/// Keys, each with a value and the instant in nanoseconds at which it is due; [`NEVER`] is for ever.
#[derive(Debug)]
pub struct Expiring<K, V> {
    entries: HashMap<K, Entry<V>, DefaultHashBuilder>,
    /// A key's first place in it may be early, when its time was put off, but never late. [`Entry::queued`] says which
    /// one counts.
    heap: BinaryHeap<Reverse<Queued<K>>>,
    counting: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    due: i64,
    /// The instant of its place in the heap; NEVER when it has none.
    queued: i64,
}

/// Ordered by the instant alone.
#[derive(Clone, Debug)]
struct Queued<K> {
    at: i64,
    key: K,
}

impl<K> PartialEq for Queued<K> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<K> Eq for Queued<K> {}

impl<K> PartialOrd for Queued<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Queued<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl<K: Copy + Eq + Hash, V> Expiring<K, V> {
    /// None yet. Who shares a hasher with others can choose among several of these by a key's hash.
    #[must_use]
    pub fn new(hasher: DefaultHashBuilder) -> Self {
        Self {
            entries: HashMap::with_hasher(hasher),
            heap: BinaryHeap::new(),
            counting: 0,
        }
    }

    /// How many keys are here, those that are due but not purged yet among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A key's value and when it is due, also when it is due already.
    #[inline]
    #[must_use]
    pub fn get(&self, key: &K) -> Option<(&V, i64)> {
        self.entries.get(key).map(|entry| (&entry.value, entry.due))
    }

    /// Every key, its value, and when it is due.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V, i64)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value, entry.due))
    }

    /// An instant before which no key is due.
    #[must_use]
    pub fn next(&self) -> i64 {
        self.heap.peek().map_or(NEVER, |Reverse(first)| first.at)
    }

    /// Add a key, or give it another value and time.
    pub fn put(&mut self, key: K, value: V, due: i64) {
        match self.entries.entry(key) {
            Slot::Occupied(mut here) => {
                let entry = here.get_mut();
                (entry.value, entry.due) = (value, due);
            }
            Slot::Vacant(free) => {
                let queued = NEVER;
                free.insert(Entry { value, due, queued });
            }
        }
        self.enqueue(key);
    }

    /// Forget a key; says whether it was here.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(entry) = self.entries.remove(key) else {
            return false;
        };
        self.counting -= usize::from(entry.queued != NEVER);
        self.tidy();
        true
    }

    /// Forget every key that is due, or as many as turn up in `steps` places of the heap; says how many.
    pub fn purge(&mut self, now: i64, steps: usize) -> usize {
        let before = self.entries.len();
        for _ in 0..steps {
            let Some(first) = self.heap.peek_mut().filter(|first| first.0.at <= now) else {
                break;
            };
            let Queued { at, key } = PeekMut::pop(first).0;
            let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.queued == at) else {
                continue;
            };
            entry.queued = NEVER;
            self.counting -= 1;
            if entry.due <= now {
                self.entries.remove(&key);
            } else {
                self.enqueue(key);
            }
        }
        before - self.entries.len()
    }

    /// Forget everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.heap.clear();
        self.counting = 0;
    }

    fn enqueue(&mut self, key: K) {
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.due < entry.queued) else {
            return;
        };
        self.counting += usize::from(entry.queued == NEVER);
        entry.queued = entry.due;
        self.heap.push(Reverse(Queued { at: entry.due, key }));
        self.tidy();
    }

    /// Places that no longer count are at most as many as those that do, however often keys come and go.
    fn tidy(&mut self) {
        if self.heap.len() > 2 * self.counting + 64 {
            let counting = self.entries.iter().filter(|(_, entry)| entry.queued != NEVER);
            self.heap = counting
                .map(|(key, entry)| {
                    let (at, key) = (entry.queued, *key);
                    Reverse(Queued { at, key })
                })
                .collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expiring() -> Expiring<u32, i64> {
        Expiring::new(DefaultHashBuilder::default())
    }

    /// The heap is looked at because that is what would grow.
    #[test]
    fn adding_the_same_again_costs_no_memory() {
        let mut found = expiring();
        for now in 0..10_000 {
            found.put(7, 0, if now % 2 == 1 { now + 3600 } else { now + 5 });
            found.purge(now, usize::MAX);
        }
        assert_eq!(found.len(), 1);
        assert!(found.heap.len() <= 2 * found.len() + 65);
    }

    #[test]
    fn coming_and_going_costs_no_memory() {
        let mut found = expiring();
        for i in 0..10_000 {
            found.put(i % 7, 0, i64::from(i) + 1_000_000);
            assert!(found.remove(&(i % 7)));
        }
        assert!(found.is_empty());
        assert!(found.heap.len() <= 65);
    }

    #[test]
    fn few_steps_forget_what_is_due_first() {
        let mut found = expiring();
        for key in 0..10 {
            found.put(key, 0, 100 - i64::from(key));
        }
        assert_eq!((found.purge(100, 3), found.next(), found.len()), (3, 94, 7));
        assert_eq!((found.purge(94, 9), found.next(), found.len()), (1, 95, 6));
        assert_eq!((found.purge(100, 9), found.next(), found.len()), (6, NEVER, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u32, i64, i64),
        Drop(u32),
        Purge,
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
        let stays = prop_oneof![Just(i64::MAX), 0..20_i64, Just(1000)];
        let step = prop_oneof![
            6 => (0..9_u32, any::<i64>(), stays).prop_map(|(key, value, stays)| Step::Put(key, value, stays)),
            3 => (0..9_u32).prop_map(Step::Drop),
            3 => Just(Step::Purge),
            1 => Just(Step::Clear),
        ];
        prop::collection::vec((0..8_i64, step), 0..300)
    }

    proptest! {
        #[test]
        fn like_a_list(steps in steps()) {
            let (mut found, mut plain, mut now) = (expiring(), Vec::<(u32, i64, i64)>::new(), 0);
            for (later, step) in steps {
                now += later;
                match step {
                    Step::Put(key, value, stays) => {
                        let due = stays.saturating_add(now);
                        found.put(key, value, due);
                        plain.retain(|(other, ..)| *other != key);
                        plain.push((key, value, due));
                    }
                    Step::Drop(key) => {
                        prop_assert_eq!(found.remove(&key), plain.iter().any(|(other, ..)| *other == key));
                        plain.retain(|(other, ..)| *other != key);
                    }
                    Step::Purge => {
                        let due = plain.extract_if(.., |(.., due)| *due <= now).count();
                        prop_assert_eq!(found.purge(now, usize::MAX), due);
                        prop_assert!(found.next() > now);
                    }
                    Step::Clear => {
                        found.clear();
                        plain.clear();
                    }
                }
                plain.sort_unstable();
                let mut here: Vec<_> = found.iter().map(|(key, value, due)| (*key, *value, due)).collect();
                here.sort_unstable();
                prop_assert_eq!(&here, &plain);
                prop_assert!(plain.iter().all(|(.., due)| found.next() <= *due));
                for key in 0..9 {
                    let expected = plain.iter().find(|(other, ..)| *other == key).map(|(_, value, due)| (value, *due));
                    prop_assert_eq!(found.get(&key), expected);
                }
            }
        }
    }
}
