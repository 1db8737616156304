//! What a queue has seen: written by its thread alone, read by any.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::judge::{Cause, Final};

const NF_ACCEPT: u32 = 1;
const NF_QUEUE: u32 = 3;
const NF_REPEAT: u32 = 4;
const VERDICT_MASK: u32 = 0xFF;

/// A number that one thread counts up.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// By the counting thread alone: cheaper than an atomic addition.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed) + count, Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What went wrong is rare enough for a lock.
#[derive(Debug, Default)]
struct Failures {
    errors: BTreeMap<i32, u64>,
    last: String,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub received: Counter,
    pub lost: Counter,
    pub truncated: Counter,
    pub waiting: Counter,
    pub late_answers: Counter,
    pub receives: Counter,
    pub sends: Counter,
    panics: Counter,
    accepted: Counter,
    dropped: Counter,
    queued: Counter,
    repeated: Counter,
    causes: [Counter; Cause::ALL.len()],
    failures: Mutex<Failures>,
}

impl Counters {
    pub fn decided(&self, decided: Final) {
        match decided.value & VERDICT_MASK {
            NF_ACCEPT => self.accepted.add(1),
            NF_QUEUE => self.queued.add(1),
            NF_REPEAT => self.repeated.add(1),
            _ => self.dropped.add(1),
        }
    }

    pub fn failed(&self, cause: Cause, words: &str) {
        self.causes[cause as usize].add(1);
        words.clone_into(&mut self.failures().last);
    }

    /// A call of the judge panicked.
    pub fn panicked(&self, words: &str) {
        self.panics.add(1);
        words.clone_into(&mut self.failures().last);
    }

    pub fn error(&self, errno: i32) {
        *self.failures().errors.entry(errno).or_default() += 1;
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn snapshot(&self) -> Snapshot {
        let failures = self.failures();
        Snapshot {
            received: self.received.get(),
            accepted: self.accepted.get(),
            dropped: self.dropped.get(),
            queued: self.queued.get(),
            repeated: self.repeated.get(),
            failures: Cause::ALL.map(|cause| (cause, self.causes[cause as usize].get())),
            last_failure: failures.last.clone(),
            truncated: self.truncated.get(),
            lost: self.lost.get(),
            errors: failures.errors.clone(),
            waiting: self.waiting.get(),
            late_answers: self.late_answers.get(),
            panics: self.panics.get(),
            receives: self.receives.get(),
            sends: self.sends.get(),
        }
    }
}

/// The counters of a queue at one moment, in packets since it was bound unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Read from the queue, truncated ones included.
    pub received: u64,
    /// Verdict `NF_ACCEPT`.
    pub accepted: u64,
    /// Verdict `NF_DROP`, or any that no kernel knows.
    pub dropped: u64,
    /// Verdict `NF_QUEUE`: sent to another queue.
    pub queued: u64,
    /// Verdict `NF_REPEAT`: rejects that go back through the mark too.
    pub repeated: u64,
    /// Decided for a failure of the loop's, by cause; in the verdicts above too.
    pub failures: [(Cause, u64); Cause::ALL.len()],
    /// The last of those in words, or what the last panic said; empty when there was none.
    pub last_failure: String,
    /// Messages that did not fit in their slot. A copy range that cuts a packet is not one.
    pub truncated: u64,
    /// Found the socket full and never came here: dropped, or let through where the queue fails open.
    pub lost: u64,
    /// What the kernel complained about, by errno: ENOENT is a verdict for a packet that it no longer holds, EBADMSG
    /// (counted here) a message that nobody can read.
    pub errors: BTreeMap<i32, u64>,
    /// Packets that wait for an answer now, or behind one that does.
    pub waiting: u64,
    /// Answers that came too late, or twice.
    pub late_answers: u64,
    /// Calls of the judge that panicked.
    pub panics: u64,
    /// Receives that brought something.
    pub receives: u64,
    /// Sends of verdicts.
    pub sends: u64,
}
