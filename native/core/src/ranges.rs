//! Sorted inclusive ranges of numbers, and a fast way to ask whether they hold one.

/// A number that ranges are made of: `u32` for IPv4, `u128` for IPv6, `u64` for all else.
pub trait Number: Copy + Ord + std::fmt::Display {
    /// How many bits it has.
    const BITS: u32;
    /// The number of its upper bits, as many as asked for, at most 32.
    fn top(self, bits: u32) -> usize;
}

macro_rules! number {
    ($($kind:ty),*) => {$(
        impl Number for $kind {
            const BITS: u32 = <$kind>::BITS;
            fn top(self, bits: u32) -> usize {
                if bits == 0 { 0 } else { (self >> (Self::BITS - bits)) as usize }
            }
        }
    )*};
}
number!(u32, u64, u128);

/// Inclusive ranges, sorted, not overlapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges<K> {
    low: Box<[K]>,
    high: Box<[K]>,
}

impl<K: Number> Ranges<K> {
    /// Takes ranges that are sorted and do not overlap; says which one is not.
    ///
    /// # Errors
    /// Names the first range that is upside down or begins before the one before it has ended.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (K, K)>) -> Result<Self, String> {
        let (low, high): (Vec<K>, Vec<K>) = pairs.into_iter().unzip();
        for (i, (first, last)) in low.iter().zip(&high).enumerate() {
            if first > last || (i > 0 && high[i - 1] >= *first) {
                return Err(format!(
                    "range {first}-{last}: expected sorted ranges that do not overlap"
                ));
            }
        }
        Ok(Self {
            low: low.into(),
            high: high.into(),
        })
    }

    /// Whether one of the ranges holds a number.
    #[must_use]
    pub fn contains(&self, number: K) -> bool {
        let behind = self.low.partition_point(|low| *low <= number);
        behind > 0 && number <= self.high[behind - 1]
    }

    /// How many ranges.
    #[must_use]
    pub fn len(&self) -> usize {
        self.low.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.low.is_empty()
    }

    /// First and last number of each range, in order.
    pub fn iter(&self) -> impl Iterator<Item = (K, K)> {
        self.low.iter().copied().zip(self.high.iter().copied())
    }
}
