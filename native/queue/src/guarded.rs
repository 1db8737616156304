//! A judge whose panics are caught and whose failures are counted.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::counters::Counters;
use crate::judge::{Cause, Final, Judge, Judged, Ticket};
use crate::nfqueue::Queued;

pub(crate) struct Guarded<J> {
    judge: J,
    counters: Arc<Counters>,
    /// What the judge said when it could not begin the batch.
    unready: Option<String>,
}

impl<J: Judge> Guarded<J> {
    pub fn new(judge: J, counters: Arc<Counters>) -> Self {
        Self {
            judge,
            counters,
            unready: None,
        }
    }

    pub fn begin_batch(&mut self) {
        self.unready = self.attempt(J::begin_batch).err();
    }

    pub fn end_batch(&mut self) {
        // Its verdicts are known by then, and a panic is counted.
        let _ = self.attempt(J::end_batch);
    }

    pub fn judge(&mut self, packet: &Queued<'_>) -> Judged<J::Suspended> {
        let judged = self.call(|judge| judge.judge(packet));
        judged.unwrap_or_else(|words| Judged::Final(self.fail(Cause::Error, Some(packet), &words)))
    }

    /// See [`Judge::judge_by`].
    pub fn judge_by(&mut self, policy: J::Policy, packet: &Queued<'_>) -> Judged<J::Suspended> {
        let judged = self.call(|judge| judge.judge_by(policy, packet));
        judged.unwrap_or_else(|words| Judged::Final(self.fail(Cause::Error, Some(packet), &words)))
    }

    pub fn policy(&mut self, packet: &Queued<'_>) -> Result<J::Policy, Final> {
        let policy = self.call(J::policy);
        policy.map_err(|words| self.fail(Cause::Error, Some(packet), &words))
    }

    pub fn flow(&mut self, packet: &Queued<'_>) -> Result<u64, Final> {
        let flow = self.call(|judge| judge.flow(packet));
        flow.map_err(|words| self.fail(Cause::Error, Some(packet), &words))
    }

    /// Whether somebody took the question.
    pub fn ask(&mut self, ticket: Ticket, packet: &Queued<'_>, suspended: &J::Suspended) -> Result<bool, Final> {
        let asked = self.call(|judge| judge.ask(ticket, packet, suspended));
        asked.map_err(|words| self.fail(Cause::Error, Some(packet), &words))
    }

    pub fn resume(&mut self, packet: &Queued<'_>, suspended: J::Suspended, answer: J::Answer) -> Judged<J::Suspended> {
        let judged = self.call(|judge| judge.resume(packet, suspended, Ok(answer)));
        judged.unwrap_or_else(|words| Judged::Final(self.fail(Cause::Error, Some(packet), &words)))
    }

    /// The verdict of a packet whose question nobody answers.
    pub fn give_up(&mut self, packet: &Queued<'_>, suspended: J::Suspended, cause: Cause, words: &str) -> Final {
        self.counters.failed(cause, words);
        match self.call(|judge| judge.resume(packet, suspended, Err(cause))) {
            Ok(Judged::Final(decided)) => decided,
            Ok(Judged::Wait(_)) => self.fail(
                Cause::Error,
                Some(packet),
                "the judge waits again after it was told not to",
            ),
            Err(words) => self.fail(Cause::Error, Some(packet), &words),
        }
    }

    pub fn fail(&mut self, cause: Cause, packet: Option<&Queued<'_>>, words: &str) -> Final {
        self.counters.failed(cause, words);
        self.attempt(|judge| judge.fail(cause, packet, words))
            .unwrap_or(Final::DROP)
    }

    /// A batch that the judge could not begin would be judged by who knows which policy: its packets fail.
    fn call<T>(&mut self, call: impl FnOnce(&mut J) -> T) -> Result<T, String> {
        match &self.unready {
            Some(words) => Err(words.clone()),
            None => self.attempt(call),
        }
    }

    fn attempt<T>(&mut self, call: impl FnOnce(&mut J) -> T) -> Result<T, String> {
        catch_unwind(AssertUnwindSafe(|| call(&mut self.judge))).map_err(|panic| {
            let words = words_of(panic.as_ref());
            self.counters.panicked(&words);
            words
        })
    }
}

/// What a panic said.
pub fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}
