//! [`Expiring`] keys for several threads: in shards, so that whoever adds stops hardly anyone who looks.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::sync::{RwLock, RwLockWriteGuard};

use hashbrown::DefaultHashBuilder;

use super::expiring::{Expiring, NEVER};
use super::unpoisoned;

const SHARDS: usize = 64;

/// Steps of purging that come with each addition: more than it can make necessary, few enough not to be felt.
const BESIDES: usize = 4;

/// Steps of purging that a shard is locked for.
const AT_ONCE: usize = 64;

/// What became of an attempt to put a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is here.
    Done,
    /// The caller wanted nothing put.
    Declined,
    /// Every place is taken.
    Full,
}

#[derive(Debug)]
pub(super) struct Shared<K, V> {
    shards: Box<[Shard<K, V>]>,
    /// Places taken in all shards together.
    length: AtomicUsize,
    /// Seeded by chance: nobody outside can choose keys that collide.
    hasher: DefaultHashBuilder,
}

/// On cache lines of its own; processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Shard<K, V> {
    keys: RwLock<Expiring<K, V>>,
    /// An instant before which none of them is due.
    next: AtomicI64,
}

impl<K: Copy + Eq + Hash, V: Copy> Shared<K, V> {
    pub(super) fn new() -> Self {
        let hasher = DefaultHashBuilder::default();
        let shard = || Shard {
            keys: RwLock::new(Expiring::new(hasher.clone())),
            next: AtomicI64::new(NEVER),
        };
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            length: AtomicUsize::new(0),
            hasher,
        }
    }

    /// A key's value at `now`.
    #[inline]
    pub(super) fn get(&self, key: &K, now: i64) -> Option<V> {
        if self.is_empty() {
            return None;
        }
        let keys = unpoisoned(self.shard(key).keys.read());
        keys.get(key).filter(|(_, due)| now < *due).map(|(value, _)| *value)
    }

    /// Put what `wanted` makes of a key's value at `now`: another value and when it is due, or nothing. A key that is
    /// new takes one of `size` places; those of keys that are due are free.
    pub(super) fn put(&self, key: K, size: usize, now: i64, wanted: impl Fn(Option<V>) -> Option<(V, i64)>) -> Put {
        let shard = self.shard(&key);
        let mut place = false;
        let put = loop {
            let mut keys = unpoisoned(shard.keys.write());
            self.purge_some(shard, &mut keys, now, BESIDES);
            let mut here = keys.get(&key);
            if here.is_some_and(|(_, due)| due <= now) {
                // Its place is free, and not its own any more: the size may be smaller than it was.
                keys.remove(&key);
                self.length.fetch_sub(1, Relaxed);
                here = None;
            }
            let Some((value, due)) = wanted(here.map(|(value, _)| *value)) else {
                break Put::Declined;
            };
            if here.is_some() || std::mem::take(&mut place) || self.reserve(size) {
                keys.put(key, value, due);
                shard.next.store(keys.next(), Relaxed);
                break Put::Done;
            }
            drop(keys);
            self.make_room(size, now);
            // What others put meanwhile is looked at once more, with the place in hand.
            place = self.reserve(size);
            if !place {
                break Put::Full;
            }
        };
        self.length.fetch_sub(usize::from(place), Relaxed);
        put
    }

    /// Forget a key; says whether it was here at `now`.
    pub(super) fn remove(&self, key: &K, now: i64) -> bool {
        let mut keys = unpoisoned(self.shard(key).keys.write());
        let due = keys.get(key).map(|(_, due)| due);
        self.length.fetch_sub(usize::from(keys.remove(key)), Relaxed);
        due.is_some_and(|due| now < due)
    }

    /// Forget everything.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut keys = unpoisoned(shard.keys.write());
            self.length.fetch_sub(keys.len(), Relaxed);
            keys.clear();
            shard.next.store(NEVER, Relaxed);
        }
    }

    /// Whether nothing was put, or all is forgotten.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.length.load(Relaxed) == 0
    }

    /// How many are here at `now`.
    pub(super) fn len(&self, now: i64) -> usize {
        self.purge_while(now, || true);
        self.length.load(Relaxed)
    }

    /// What `tell` makes of keys that are here at `now` and when they are due: at most `most`, but for the first `from`.
    pub(super) fn list<T>(&self, now: i64, from: usize, most: usize, tell: impl Fn(&K, i64) -> T) -> Vec<T> {
        let (mut before, mut told) = (from, Vec::new());
        for shard in &self.shards {
            let keys = unpoisoned(shard.keys.read());
            for (key, _, due) in keys.iter().filter(|(.., due)| now < *due) {
                if told.len() == most {
                    return told;
                }
                if before > 0 {
                    before -= 1;
                } else {
                    told.push(tell(key, due));
                }
            }
        }
        told
    }

    fn shard(&self, key: &K) -> &Shard<K, V> {
        // The map takes the uppermost and the lowest bits of the same hash.
        &self.shards[(self.hasher.hash_one(key) >> 40) as usize % SHARDS]
    }

    /// Take a place; says whether there was one.
    fn reserve(&self, size: usize) -> bool {
        let more = |length| (length < size).then_some(length + 1);
        self.length.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn make_room(&self, size: usize, now: i64) {
        self.purge_while(now, || self.length.load(Relaxed) >= size);
    }

    /// Forget what is due at `now`, a little at a time, as long as `wanted`.
    fn purge_while(&self, now: i64, wanted: impl Fn() -> bool) {
        for shard in &self.shards {
            while shard.next.load(Relaxed) <= now && wanted() {
                self.purge_some(shard, &mut unpoisoned(shard.keys.write()), now, AT_ONCE);
            }
        }
    }

    fn purge_some(&self, shard: &Shard<K, V>, keys: &mut RwLockWriteGuard<'_, Expiring<K, V>>, now: i64, steps: usize) {
        let forgotten = keys.purge(now, steps);
        if forgotten > 0 {
            self.length.fetch_sub(forgotten, Relaxed);
        }
        shard.next.store(keys.next(), Relaxed);
    }
}
