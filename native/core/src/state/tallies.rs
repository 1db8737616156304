//! What an engine counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::malformed::{CODES, Malformed};
use crate::packet::Hook;
use crate::plan::Kind;
use crate::value::Cause;

/// Packets, and the sum of their lengths in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "see above")]
pub struct Tally {
    pub packets: u64,
    pub bytes: u64,
}

/// Plain numbers: what several threads counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By rule: how often it matched, whether or not it gave the verdict.
    pub rules: Vec<Tally>,
    /// By named counter.
    pub counters: Vec<Tally>,
    /// By hook number: packets that no rule decided.
    pub defaults: [Tally; 5],
    /// By cause: packets that a failure decided.
    pub causes: [Tally; 8],
    /// By kind of verdict: every packet once.
    pub kinds: [Tally; 5],
    /// Packets by malformed code.
    pub malformed: [u64; CODES.len()],
}

/// One thread's counts. Only that thread adds to them; any thread reads them.
#[derive(Debug)]
#[repr(align(128))]
pub struct Tallies {
    rules: Box<[Count]>,
    counters: Box<[Count]>,
    defaults: [Count; 5],
    causes: [Count; 8],
    kinds: [Count; 5],
    malformed: [AtomicU64; CODES.len()],
}

#[derive(Debug, Default)]
struct Count {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    fn add(&self, length: u64) {
        add(&self.packets, 1);
        add(&self.bytes, length);
    }

    fn add_to(&self, sum: &mut Tally) {
        sum.packets += self.packets.load(Relaxed);
        sum.bytes += self.bytes.load(Relaxed);
    }
}

/// No locked instruction: nobody else writes.
fn add(number: &AtomicU64, more: u64) {
    number.store(number.load(Relaxed).wrapping_add(more), Relaxed);
}

impl Tallies {
    /// Zeros for so many rules and named counters.
    #[must_use]
    pub fn new(rules: usize, counters: usize) -> Self {
        let zeros = |many| std::iter::repeat_with(Count::default).take(many).collect();
        Self {
            rules: zeros(rules),
            counters: zeros(counters),
            defaults: Default::default(),
            causes: Default::default(),
            kinds: Default::default(),
            malformed: [const { AtomicU64::new(0) }; CODES.len()],
        }
    }

    /// A rule, by its index, matched a packet of `length` bytes.
    #[inline]
    pub fn add_rule(&self, rule: usize, length: u64) {
        self.rules[rule].add(length);
    }

    /// `count:` of a named counter, by its index.
    #[inline]
    pub fn add_counter(&self, counter: usize, length: u64) {
        self.counters[counter].add(length);
    }

    /// No rule decided a packet on this hook.
    #[inline]
    pub fn add_default(&self, hook: Hook, length: u64) {
        self.defaults[hook as usize].add(length);
    }

    /// A failure decided a packet.
    #[inline]
    pub fn add_cause(&self, cause: Cause, length: u64) {
        self.causes[cause as usize].add(length);
    }

    /// A packet has its verdict.
    #[inline]
    pub fn add_kind(&self, kind: Kind, length: u64) {
        self.kinds[kind as usize].add(length);
    }

    /// A packet was malformed; its length is with the cause.
    #[inline]
    pub fn add_malformed(&self, code: Malformed) {
        add(&self.malformed[code as usize], 1);
    }

    /// What threads of one engine have counted so far.
    #[must_use]
    pub fn sum<'a>(threads: impl IntoIterator<Item = &'a Self>) -> Totals {
        let mut totals = Totals::default();
        for thread in threads {
            totals.rules.resize(thread.rules.len(), Tally::default());
            totals.counters.resize(thread.counters.len(), Tally::default());
            for (counts, sums) in [
                (&thread.rules[..], &mut totals.rules[..]),
                (&thread.counters, &mut totals.counters),
                (&thread.defaults, &mut totals.defaults),
                (&thread.causes, &mut totals.causes),
                (&thread.kinds, &mut totals.kinds),
            ] {
                counts.iter().zip(sums).for_each(|(count, sum)| count.add_to(sum));
            }
            for (count, sum) in thread.malformed.iter().zip(&mut totals.malformed) {
                *sum += count.load(Relaxed);
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn tally(packets: u64, bytes: u64) -> Tally {
        Tally { packets, bytes }
    }

    #[test]
    fn each_count_is_its_own() {
        let tallies = Tallies::new(3, 2);
        tallies.add_rule(2, 40);
        tallies.add_rule(2, 60);
        tallies.add_rule(0, 1);
        tallies.add_counter(1, 7);
        tallies.add_default(Hook::Forward, 20);
        tallies.add_cause(Cause::Malformed, 30);
        tallies.add_kind(Kind::Reject, 50);
        tallies.add_malformed(Malformed::PortZero);
        let totals = Tallies::sum([&tallies]);
        let none = Tally::default();
        assert_eq!(totals.rules, [tally(1, 1), none, tally(2, 100)]);
        assert_eq!(totals.counters, [none, tally(1, 7)]);
        assert_eq!(totals.defaults, [none, none, tally(1, 20), none, none]);
        assert_eq!(totals.causes[Cause::Malformed as usize], tally(1, 30));
        assert_eq!(totals.causes.iter().filter(|count| **count != none).count(), 1);
        assert_eq!(totals.kinds, [none, none, tally(1, 50), none, none]);
        assert_eq!(totals.malformed[Malformed::PortZero as usize], 1);
        assert_eq!(totals.malformed.iter().sum::<u64>(), 1);
    }

    #[test]
    fn nobody_counted_nothing() {
        assert_eq!(Tallies::sum([]), Totals::default());
    }

    /// Whoever reads meanwhile sees numbers that only grow, and in the end nothing is missing.
    #[test]
    fn threads_add_up() {
        const EACH: u64 = 200_000;
        let (all, done) = (
            std::array::from_fn::<_, 3, _>(|_| Tallies::new(2, 1)),
            AtomicBool::new(false),
        );
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut last = 0;
                while !done.load(Relaxed) {
                    let sum = Tallies::sum(&all).rules[1].packets;
                    assert!(sum >= last && sum <= 3 * EACH);
                    last = sum;
                }
            });
            let writers = all.each_ref().map(|own| {
                scope.spawn(move || {
                    for i in 0..EACH {
                        own.add_rule(1, i);
                        own.add_kind(Kind::Drop, 1);
                    }
                })
            });
            for writer in writers {
                writer.join().expect("a writer");
            }
            done.store(true, Relaxed);
            reader.join().expect("the reader");
        });
        let totals = Tallies::sum(&all);
        assert_eq!(totals.rules[1], tally(3 * EACH, 3 * EACH * (EACH - 1) / 2));
        assert_eq!(totals.kinds[Kind::Drop as usize], tally(3 * EACH, 3 * EACH));
    }
}
