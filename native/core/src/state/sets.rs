//! Sets while packets flow: the elements of the file, and those that actions added.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashSet;

use super::expiring::NEVER;
use super::key::Key;
use super::shared::{Put, Shared};
use crate::plan::Addresses;
use crate::ranges::Ranges;
use crate::value::Address;

/// What the file gives a set; says of which type its elements are.
#[derive(Clone, Debug)]
pub enum Elements {
    /// Addresses of both families.
    Addresses(Arc<Addresses>),
    /// Ports and numbers.
    Ranges(Ranges<u64>),
    /// As UTF-8.
    Strings(HashSet<Box<[u8]>>),
}

/// An element as a packet has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the types of a set")]
pub enum ElementRef<'a> {
    Number(u64),
    Address(Address),
    Bytes(&'a [u8]),
}

/// An element that was added, for whoever lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// A port or a number.
    Number(u64),
    /// An address.
    Address(Address),
    /// A text.
    Bytes(Box<[u8]>),
    /// The BLAKE2b-256 digest of a text that is too long to be kept.
    Digest([u8; 32]),
}

/// What became of an addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is in the set, its time starts now.
    Done,
    /// The file has it already: it stays for ever.
    InFile,
    /// The set is full.
    Refused,
    /// The set is not dynamic, or of another type.
    Unfit,
}

/// What is in a set beside the elements of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetTally {
    /// Elements that are there now.
    pub elements: usize,
    /// Additions so far.
    pub added: u64,
    /// Additions that the size refused.
    pub refused: u64,
}

/// One set of the policy. Added elements time out; those of the file do not and cannot be deleted.
#[derive(Clone, Debug)]
pub struct LiveSet {
    elements: Elements,
    live: Option<Arc<dyn Live>>,
    timeout: Option<i64>,
    size: usize,
}

impl LiveSet {
    /// A set as the policy defines it: `timeout` in nanoseconds is for additions that bring none, None is for ever;
    /// `size` is how many elements may be added.
    #[must_use]
    pub fn new(elements: Elements, dynamic: bool, timeout: Option<i64>, size: usize) -> Self {
        let live = dynamic.then(|| match elements {
            Elements::Addresses(_) | Elements::Ranges(_) => Arc::new(Dynamic::<Small>::new()) as Arc<dyn Live>,
            Elements::Strings(_) => Arc::new(Dynamic::<Key>::new()),
        });
        Self {
            elements,
            live,
            timeout,
            size,
        }
    }

    /// This set with what was added to another of the same type, for a policy that takes another's place. Both have
    /// it in common from now on.
    #[must_use]
    pub fn inheriting(self, other: &Self) -> Self {
        let same = std::mem::discriminant(&self.elements) == std::mem::discriminant(&other.elements);
        match (&self.live, &other.live) {
            (Some(_), Some(live)) if same => Self {
                live: Some(Arc::clone(live)),
                ..self
            },
            _ => self,
        }
    }

    /// Whether the set holds an element at `now` (monotonic nanoseconds).
    #[inline]
    #[must_use]
    pub fn contains(&self, element: ElementRef<'_>, now: i64) -> bool {
        self.in_file(element) || self.live.as_ref().is_some_and(|live| live.contains(element, now))
    }

    /// Add an element, or start its time anew. Refused and counted when the set is full.
    pub fn add(&self, element: ElementRef<'_>, timeout: Option<i64>, now: i64) -> Added {
        let Some(live) = &self.live else {
            return Added::Unfit;
        };
        if self.in_file(element) {
            return Added::InFile;
        }
        let due = timeout
            .or(self.timeout)
            .map_or(NEVER, |stays| now.saturating_add(stays));
        live.add(element, due, self.size, now)
    }

    /// Take back what was added; says whether it was there at `now`.
    pub fn delete(&self, element: ElementRef<'_>, now: i64) -> bool {
        self.live.as_ref().is_some_and(|live| live.delete(element, now))
    }

    /// Take back everything that was added.
    pub fn flush(&self) {
        if let Some(live) = &self.live {
            live.flush();
        }
    }

    /// What is in it at `now`, beside the elements of the file; None of a set that is not dynamic.
    #[must_use]
    pub fn tally(&self, now: i64) -> Option<SetTally> {
        self.live.as_ref().map(|live| live.tally(now))
    }

    /// At most `most` of the added elements and the nanoseconds that each has left (None is for ever), but for the first
    /// `from`. Their order stays while nothing is added or deleted.
    #[must_use]
    pub fn list(&self, now: i64, from: usize, most: usize) -> Vec<(Element, Option<i64>)> {
        self.live
            .as_ref()
            .map_or_else(Vec::new, |live| live.list(now, from, most))
    }

    fn in_file(&self, element: ElementRef<'_>) -> bool {
        match (&self.elements, element) {
            (Elements::Addresses(addresses), ElementRef::Address(Address::V4(number))) => addresses.v4.contains(number),
            (Elements::Addresses(addresses), ElementRef::Address(Address::V6(number))) => addresses.v6.contains(number),
            (Elements::Ranges(ranges), ElementRef::Number(number)) => ranges.contains(number),
            (Elements::Strings(strings), ElementRef::Bytes(bytes)) => strings.contains(bytes),
            _ => false,
        }
    }
}

/// The part that changes, of whatever type.
trait Live: Send + Sync + fmt::Debug {
    fn contains(&self, element: ElementRef<'_>, now: i64) -> bool;
    fn add(&self, element: ElementRef<'_>, due: i64, size: usize, now: i64) -> Added;
    fn delete(&self, element: ElementRef<'_>, now: i64) -> bool;
    fn flush(&self);
    fn tally(&self, now: i64) -> SetTally;
    fn list(&self, now: i64, from: usize, most: usize) -> Vec<(Element, Option<i64>)>;
}

#[derive(Debug)]
struct Dynamic<K> {
    keys: Shared<K, ()>,
    added: AtomicU64,
    refused: AtomicU64,
}

impl<K: Held> Dynamic<K> {
    fn new() -> Self {
        Self {
            keys: Shared::new(),
            added: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

impl<K: Held> Live for Dynamic<K> {
    fn contains(&self, element: ElementRef<'_>, now: i64) -> bool {
        !self.keys.is_empty() && K::of(element).is_some_and(|key| self.keys.get(&key, now).is_some())
    }

    fn add(&self, element: ElementRef<'_>, due: i64, size: usize, now: i64) -> Added {
        let Some(key) = K::of(element) else {
            return Added::Unfit;
        };
        if self.keys.put(key, size, now, |_| Some(((), due))) == Put::Done {
            self.added.fetch_add(1, Relaxed);
            Added::Done
        } else {
            self.refused.fetch_add(1, Relaxed);
            Added::Refused
        }
    }

    fn delete(&self, element: ElementRef<'_>, now: i64) -> bool {
        K::of(element).is_some_and(|key| self.keys.remove(&key, now))
    }

    fn flush(&self) {
        self.keys.clear();
    }

    fn tally(&self, now: i64) -> SetTally {
        SetTally {
            elements: self.keys.len(now),
            added: self.added.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }

    fn list(&self, now: i64, from: usize, most: usize) -> Vec<(Element, Option<i64>)> {
        let left = |due| (due != NEVER).then(|| due - now);
        self.keys.list(now, from, most, |key, due| (key.element(), left(due)))
    }
}

/// A key that elements of some types have.
trait Held: Copy + Eq + std::hash::Hash + Send + Sync + fmt::Debug + 'static {
    fn of(element: ElementRef<'_>) -> Option<Self>;
    fn element(&self) -> Element;
}

/// An address or a number in 24 bytes: a `u128` would be aligned to 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Small {
    Number(u64),
    V4(u32),
    V6([u64; 2]),
}

impl Held for Small {
    fn of(element: ElementRef<'_>) -> Option<Self> {
        match element {
            ElementRef::Number(number) => Some(Self::Number(number)),
            ElementRef::Address(Address::V4(number)) => Some(Self::V4(number)),
            ElementRef::Address(Address::V6(number)) => Some(Self::V6([(number >> 64) as u64, number as u64])),
            ElementRef::Bytes(_) => None,
        }
    }

    fn element(&self) -> Element {
        match *self {
            Self::Number(number) => Element::Number(number),
            Self::V4(number) => Element::Address(Address::V4(number)),
            Self::V6([high, low]) => Element::Address(Address::V6(u128::from(high) << 64 | u128::from(low))),
        }
    }
}

impl Held for Key {
    fn of(element: ElementRef<'_>) -> Option<Self> {
        match element {
            ElementRef::Bytes(bytes) => Some(Self::new(&[bytes])),
            ElementRef::Number(_) | ElementRef::Address(_) => None,
        }
    }

    fn element(&self) -> Element {
        match self.bytes() {
            Ok(bytes) => Element::Bytes(bytes.into()),
            Err(digest) => Element::Digest(digest),
        }
    }
}

#[cfg(test)]
mod tests;
