//! Sorted inclusive ranges of numbers, and a fast way to ask whether they hold one.
//!
//! The upper bits of a number, counted from where the ranges begin, choose a bucket; a bucket names the first range that
//! ends in it or behind it, and a few steps from there find the only range that can hold the number. Where ranges lie
//! close together a bucket has an index of its own, so that a million of them in one prefix are found as fast.

use std::fmt::Display;
use std::hash::Hash;

/// A number that ranges are made of: `u32` for IPv4, `u128` for IPv6, `u64` for all else.
pub trait Number: Copy + Ord + Hash + Display {
    /// How many bits it has.
    const BITS: u32;
    /// How far it is behind another, 0 when it is not, in steps of `1 << shift`; at most `usize::MAX` of them.
    fn steps(self, base: Self, shift: u32) -> usize;
    /// How many bits the distance from a smaller one needs.
    fn distance_bits(self, base: Self) -> u32;
}

macro_rules! number {
    ($($kind:ty),*) => {$(
        impl Number for $kind {
            const BITS: u32 = <$kind>::BITS;

            #[inline]
            fn steps(self, base: Self, shift: u32) -> usize {
                usize::try_from(self.saturating_sub(base) >> shift).unwrap_or(usize::MAX)
            }

            fn distance_bits(self, base: Self) -> u32 {
                Self::BITS - (self - base).leading_zeros()
            }
        }
    )*};
}
number!(u32, u64, u128);

/// As many ranges as are looked through one by one.
const FEW: usize = 6;

/// A slot with this bit is the number of another index, any other slot that of a range.
const DEEPER: u32 = 1 << 31;

/// Inclusive ranges, sorted, not overlapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges<K> {
    pairs: Box<[(K, K)]>,
    indices: Box<[Index<K>]>,
    slots: Box<[u32]>,
}

/// Buckets for ranges that end at `base` or behind it, each `1 << shift` numbers wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Index<K> {
    base: K,
    shift: u32,
    /// Its slots are those from `first` on; the one of all numbers behind the last bucket is `last`.
    first: usize,
    last: usize,
}

impl<K: Number> Ranges<K> {
    /// Takes ranges that are sorted and do not overlap; says which one is not.
    ///
    /// # Errors
    /// Names the first range that is upside down or begins before the one before it has ended.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (K, K)>) -> Result<Self, String> {
        let pairs: Box<[(K, K)]> = pairs.into_iter().collect();
        let mut before = None;
        for (first, last) in &pairs {
            if first > last || before.is_some_and(|before| before >= *first) {
                return Err(format!(
                    "range {first}-{last}: expected sorted ranges that do not overlap"
                ));
            }
            before = Some(*last);
        }
        if pairs.len() >= DEEPER as usize {
            return Err(format!("{} ranges: expected fewer than {DEEPER}", pairs.len()));
        }
        let mut building = Building {
            pairs: &pairs,
            indices: Vec::new(),
            slots: Vec::new(),
        };
        if pairs.len() > FEW {
            building.index(0, pairs.len());
        }
        let (indices, slots) = (building.indices.into(), building.slots.into());
        Ok(Self { pairs, indices, slots })
    }

    /// Whether one of the ranges holds a number.
    #[inline]
    #[must_use]
    pub fn contains(&self, number: K) -> bool {
        let mut from = 0;
        let mut index = self.indices.first();
        while let Some(Index {
            base,
            shift,
            first,
            last,
        }) = index
        {
            from = self.slots[number.steps(*base, *shift).saturating_add(*first).min(*last)];
            index = if from & DEEPER == 0 {
                None
            } else {
                self.indices.get((from ^ DEEPER) as usize)
            };
        }
        let reached = self.pairs[from as usize..].iter().find(|(_, high)| number <= *high);
        reached.is_some_and(|(low, _)| *low <= number)
    }

    /// How many ranges.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// First and last number of each range, in order.
    pub fn iter(&self) -> impl Iterator<Item = (K, K)> {
        self.pairs.iter().copied()
    }
}

struct Building<'a, K> {
    pairs: &'a [(K, K)],
    indices: Vec<Index<K>>,
    slots: Vec<u32>,
}

impl<K: Number> Building<'_, K> {
    /// Adds the index of the ranges `from..to`, more than FEW, and the indices below it; returns its number.
    ///
    /// This ends: a deeper index has narrower buckets, and in one of a single number at most one range can end.
    fn index(&mut self, from: usize, to: usize) -> u32 {
        let (base, end) = (self.pairs[from].1, self.pairs[to - 1].1);
        let shift = end.distance_bits(base).saturating_sub((to - from).ilog2());
        let first = self.slots.len();
        let last = first + end.steps(base, shift) + 1;
        let number = self.indices.len();
        self.indices.push(Index {
            base,
            shift,
            first,
            last,
        });
        self.slots.resize(last + 1, to as u32);
        let mut next = from;
        for bucket in 0..last - first {
            let begin = next;
            while next < to && self.pairs[next].1.steps(base, shift) == bucket {
                next += 1;
            }
            self.slots[first + bucket] = if next - begin > FEW {
                self.index(begin, next) | DEEPER
            } else {
                begin as u32
            };
        }
        number as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges<K: Number>(pairs: &[(K, K)]) -> Ranges<K> {
        Ranges::from_pairs(pairs.iter().copied()).expect("sorted ranges")
    }

    fn plainly<K: Number>(pairs: &[(K, K)], number: K) -> bool {
        pairs.iter().any(|(low, high)| (*low..=*high).contains(&number))
    }

    #[test]
    fn what_is_out_of_order_is_named() {
        for (pairs, named) in [
            (vec![(5, 4)], "5-4"),
            (vec![(1, 5), (5, 6)], "5-6"),
            (vec![(7, 8), (1, 2)], "1-2"),
        ] {
            let error = Ranges::<u32>::from_pairs(pairs).expect_err("out of order");
            assert_eq!(
                error,
                format!("range {named}: expected sorted ranges that do not overlap")
            );
        }
    }

    #[test]
    fn none_holds_nothing_and_one_can_hold_all() {
        assert!(!ranges::<u128>(&[]).contains(0));
        let all = ranges(&[(0, u128::MAX)]);
        assert!(all.contains(0) && all.contains(u128::MAX));
        assert_eq!((all.len(), all.is_empty()), (1, false));
    }

    #[test]
    fn ranges_that_touch_stay_as_they_are() {
        let touching: Vec<(u64, u64)> = (0..100).map(|i| (i * 10, i * 10 + 9)).collect();
        let found = ranges(&touching);
        assert!(found.iter().eq(touching));
        assert!((0..1000).all(|number| found.contains(number)));
        assert!(!found.contains(1000));
    }

    /// Ends that lie ever closer together make an index below an index below an index.
    #[test]
    fn the_worst_nesting_is_found_and_stays_small() {
        let pairs: Vec<(u128, u128)> = (0..128).map(|bit| (1 << bit, 1 << bit)).collect();
        let found = ranges(&pairs);
        assert!(found.indices.len() > 1);
        assert!(found.slots.len() < 10 * pairs.len());
        for (low, _) in &pairs {
            for number in [low - 1, *low, low + 1] {
                assert_eq!(found.contains(number), plainly(&pairs, number), "{number}");
            }
        }
    }

    /// Sorted ranges from gaps and widths, and numbers at and beside every edge.
    fn agree<K: Number>(pairs: &[(K, K)], near: impl Fn(K) -> [K; 3]) -> Result<(), TestCaseError> {
        let found = ranges(pairs);
        for edge in pairs.iter().flat_map(|(low, high)| [*low, *high]) {
            for number in near(edge) {
                prop_assert_eq!(found.contains(number), plainly(pairs, number), "{}", number);
            }
        }
        Ok(())
    }

    macro_rules! agrees {
        ($name:ident, $kind:ty) => {
            proptest! {
                #[test]
                fn $name(steps in prop::collection::vec((0..<$kind>::BITS, any::<$kind>(), 0..<$kind>::BITS), 0..120)) {
                    let (mut pairs, mut next) = (Vec::new(), Some(0));
                    for (gap, more, width) in steps {
                        let low = next.and_then(|next: $kind| next.checked_add(more >> gap));
                        let Some(low) = low else { break };
                        let high = low.saturating_add(more.reverse_bits() >> width);
                        pairs.push((low, high));
                        next = high.checked_add(1);
                    }
                    agree(&pairs, |edge: $kind| [edge.saturating_sub(1), edge, edge.saturating_add(1)])?;
                }
            }
        };
    }
    agrees!(for_ipv4, u32);
    agrees!(for_numbers, u64);
    agrees!(for_ipv6, u128);
}
