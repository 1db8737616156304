//! Token buckets, in whole numbers so that every engine counts alike.

use super::expiring::NEVER;
use super::key::Key;
use super::shared::{Put, Shared};

/// Buckets of one `per:` limit.
pub const MAX_BUCKETS: usize = 65_536;

const SECOND: i128 = 1_000_000_000;

/// The buckets of one limit, by the values of its `per` fields.
///
/// All that is known of a bucket is when it will be full again; a full one is the same as none. A flood of forged
/// addresses must not buy anybody a fresh burst: only full buckets make room for others. Where there is no room the
/// packet counts as over the limit.
#[derive(Debug)]
pub struct Buckets {
    // Instants are nanoseconds times rate: a token is back after `seconds` of them, and nothing is ever rounded. A
    // 64-bit rate times 63 bits of nanoseconds, and what a burst adds, need 128 bits.
    rate: i128,
    token: i128,
    burst: i128,
    size: usize,
    full_at: Shared<Key, i128>,
}

impl Buckets {
    /// Of `burst` tokens, of which `rate` come back in `seconds`.
    #[must_use]
    pub fn new(rate: u64, seconds: u64, burst: u64) -> Self {
        Self::sized(rate, seconds, burst, MAX_BUCKETS)
    }

    fn sized(rate: u64, seconds: u64, burst: u64, size: usize) -> Self {
        let token = i128::from(seconds) * SECOND;
        Self {
            rate: i128::from(rate),
            token,
            burst: token.saturating_mul(i128::from(burst)),
            size,
            full_at: Shared::new(),
        }
    }

    /// Take one token at `now` (monotonic nanoseconds); false when there is none. `key` is what the `per` fields are,
    /// in bytes that say where each value ends.
    pub fn take(&self, key: &[u8], now: i64) -> bool {
        let here = i128::from(now) * self.rate;
        let put = self.full_at.put(Key::new(&[key]), self.size, now, |full_at| {
            let full_at = full_at.unwrap_or(here).max(here).saturating_add(self.token);
            (full_at - here <= self.burst).then(|| (full_at, self.instant(full_at)))
        });
        put == Put::Done
    }

    /// The first nanosecond at which a bucket that is full at an instant is full: never, when nothing comes back.
    fn instant(&self, full_at: i128) -> i64 {
        let up = full_at.saturating_add(self.rate - 1);
        let nanoseconds = up.checked_div_euclid(self.rate);
        nanoseconds.and_then(|due| i64::try_from(due).ok()).unwrap_or(NEVER)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    const S: i64 = 1_000_000_000;

    fn answers(buckets: &Buckets, key: &[u8], times: &[i64]) -> Vec<bool> {
        times.iter().map(|now| buckets.take(key, *now)).collect()
    }

    #[test]
    fn a_third_of_a_second_is_not_quite_a_token() {
        let times = [0, 333_333_333, 333_333_334];
        assert_eq!(answers(&Buckets::new(3, 1, 1), b"", &times), [true, false, true]);
    }

    #[test]
    fn nothing_is_lost_over_a_long_time() {
        let buckets = Buckets::new(7, 60, 1);
        assert_eq!((0..60_000).filter(|step| buckets.take(b"", step * S / 100)).count(), 70);
    }

    #[test]
    fn a_refused_packet_costs_nothing() {
        let times = [0, 1, 2, S - 1, S];
        assert_eq!(
            answers(&Buckets::new(1, 1, 1), b"", &times),
            [true, false, false, false, true]
        );
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let times = [10 * S, 10 * S, 0, 10 * S];
        assert_eq!(answers(&Buckets::new(1, 1, 2), b"", &times), [true, true, false, false]);
    }

    #[test]
    fn a_flood_of_keys_buys_nobody_a_fresh_burst() {
        let buckets = Buckets::sized(1, 1, 2, 3);
        assert_eq!(answers(&buckets, b"victim", &[0, 0, 0]), [true, true, false]);
        let flood = [b"0", b"1", b"2", b"3", b"4"].map(|key| buckets.take(key, 0));
        assert_eq!(flood, [true, true, false, false, false]);
        assert!(!buckets.take(b"victim", 0));
    }

    /// The one that was used longest ago is not the one that is full first.
    #[test]
    fn one_empty_bucket_does_not_keep_full_ones_in_their_place() {
        let buckets = Buckets::sized(1, 60, 10, 2);
        assert_eq!((0..20).filter(|_| buckets.take(b"greedy", 0)).count(), 10);
        assert!(buckets.take(b"modest", 1));
        assert!(!buckets.take(b"new", 2));
        assert!(buckets.take(b"new", 61 * S));
    }

    #[test]
    fn the_largest_numbers_do_not_wrap() {
        let times = [0, i64::MAX - 2, i64::MAX - 2, i64::MAX - 1];
        assert_eq!(
            answers(&Buckets::new(u64::MAX, 1, 1), b"", &times),
            [true, true, false, true]
        );
        assert_eq!(
            answers(&Buckets::new(1, u64::MAX, 2), b"", &times),
            [true, true, false, false]
        );
        assert_eq!(answers(&Buckets::new(0, 1, 2), b"", &times), [true, true, false, false]);
        assert_eq!(answers(&Buckets::new(1, 1, 0), b"", &times), [false; 4]);
    }

    /// Four threads take from a few buckets at one instant: each gives its burst and not one token more.
    #[test]
    fn threads_share_a_burst() {
        let (buckets, taken) = (Buckets::new(1, 1, 1000), [const { AtomicUsize::new(0) }; 3]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..3000_usize {
                        let key = i % 3;
                        taken[key].fetch_add(usize::from(buckets.take(&[key as u8], 5)), Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.map(AtomicUsize::into_inner), [1000; 3]);
    }

    /// Tokens as fractions with `rate * nanoseconds` below `seconds * S`, and no bound on how many buckets there are.
    struct Plain {
        tokens: i128,
        since: i64,
    }

    impl Plain {
        fn refill(&mut self, (rate, seconds, burst): (u64, u64, u64), now: i64) -> i128 {
            let one = i128::from(seconds) * i128::from(S);
            let back = i128::from(now - self.since) * i128::from(rate);
            self.tokens = (self.tokens + back).min(i128::from(burst) * one);
            self.since = now;
            self.tokens
        }
    }

    proptest! {
        #[test]
        fn like_tokens_in_fractions(
            limit in (1..8_u64, prop::sample::select(vec![1, 60, 86_400_u64]), 1..5_u64),
            size in 1..5_usize,
            events in prop::collection::vec((steps(), 0..6_u8), 0..120),
        ) {
            let (rate, seconds, burst) = limit;
            let buckets = Buckets::sized(rate, seconds, burst, size);
            let one = i128::from(seconds) * i128::from(S);
            let (mut plain, mut now) = (HashMap::<u8, Plain>::new(), 0);
            for (step, key) in events {
                now += step;
                plain.retain(|_, bucket| bucket.refill(limit, now) < i128::from(burst) * one);
                let room = plain.contains_key(&key) || plain.len() < size;
                let full = Plain { tokens: i128::from(burst) * one, since: now };
                let took = room && {
                    let bucket = plain.entry(key).or_insert(full);
                    bucket.tokens >= one && { bucket.tokens -= one; true }
                };
                prop_assert_eq!(buckets.take(&[key], now), took);
            }
        }
    }

    /// How long after one another things happen, in nanoseconds.
    pub(in crate::state) fn steps() -> impl Strategy<Value = i64> {
        let marked = vec![0, 1, S / 3, S / 3 + 1, S, 20 * S, 86_400 * S];
        prop_oneof![prop::sample::select(marked), 0..S]
    }
}
