//! What the loop asks of whoever knows the policy.

use std::fmt;

use crate::nfqueue::Queued;

/// What becomes of a packet: the kernel is told it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Final {
    /// `verdict` of `struct nfqnl_msg_verdict_hdr` (`linux/netfilter/nfnetlink_queue.h`), in host byte order.
    pub value: u32,
    /// The packet's new mark; `None` leaves the one that it has.
    pub mark: Option<u32>,
}

impl Final {
    /// `NF_DROP`.
    pub const DROP: Self = Self { value: 0, mark: None };
    /// `NF_ACCEPT`: on with the next base chain.
    pub const ACCEPT: Self = Self { value: 1, mark: None };
    /// `NF_REPEAT`: the same base chain again. Never without a mark that the chain lets pass.
    pub const REPEAT: Self = Self { value: 4, mark: None };

    /// `NF_QUEUE` to another queue, without the bypass bit: where nobody listens, the packet is dropped.
    pub const fn queue(number: u16) -> Self {
        Self {
            value: (number as u32) << 16 | 3,
            mark: None,
        }
    }

    /// The same with a new mark.
    #[must_use]
    pub const fn with_mark(self, mark: u32) -> Self {
        Self {
            mark: Some(mark),
            ..self
        }
    }
}

/// What a judge says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged<S> {
    /// Its verdict.
    Final(Final),
    /// It must wait for an answer from elsewhere; `S` is what the judge needs to go on then.
    Wait(S),
}

/// A question that was asked about one packet. No two questions of one queue ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Why the loop itself decides a packet: those of the failure causes of docs/architecture.md that arise here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No IP packet: a bridge queues frames of any type.
    Malformed,
    /// The message did not arrive whole.
    Truncated,
    /// The judge panicked, or the kernel says what cannot be: a hook or an interface that there is not.
    Error,
    /// No room to wait in, or nobody takes the question.
    Overload,
    /// No answer in time.
    Deadline,
}

impl Cause {
    /// Every cause, in the order of their counters.
    pub const ALL: [Self; 5] = [
        Self::Malformed,
        Self::Truncated,
        Self::Error,
        Self::Overload,
        Self::Deadline,
    ];

    /// As the policy's `on_failure` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Truncated => "truncated",
            Self::Error => "error",
            Self::Overload => "overload",
            Self::Deadline => "deadline",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Decides packets, in the loop's own thread, one call at a time.
///
/// The order of calls: `begin_batch`, then for what was received and what was answered any of the others, then
/// `end_batch`; the verdicts leave after it. No call may block: nothing is decided meanwhile.
///
/// A call that panics is caught: its packet gets what [`Judge::fail`] says for [`Cause::Error`], and the loop goes on
/// with the same judge, whose invariants must hold after a panic. Where `begin_batch` panics that is every packet of the
/// batch; where `fail` itself panics, the packet is dropped.
pub trait Judge: Send + 'static {
    /// What the judge needs to go on with a packet that waits. It should be small, and owns no packet: the loop keeps
    /// that. The judge may have been given a new policy when it comes back, so it should hold what it was made by.
    type Suspended: Send + 'static;
    /// What [`crate::Answers`] brings for a ticket.
    type Answer: Send + 'static;
    /// Whatever judges the packets of one batch: the policy that is in force then.
    type Policy: Send + 'static;

    /// Before the packets of one receive, and the answers that came meanwhile: the place to load the policy in force
    /// and to look at the clock.
    fn begin_batch(&mut self) {}

    /// A packet's verdict. It is IP of the family that `payload`'s first half byte says unless that is empty, and
    /// `hook` is 0 to 4; everything else is the sender's word.
    fn judge(&mut self, packet: &Queued<'_>) -> Judged<Self::Suspended>;

    /// What `judge` judges by in this batch; asked for a packet that is to be judged later, behind one that waits.
    fn policy(&mut self) -> Self::Policy;

    /// The same as `judge`, by what was in force when the packet came: how much of it was copied is that one's wish.
    fn judge_by(&mut self, policy: Self::Policy, packet: &Queued<'_>) -> Judged<Self::Suspended>;

    /// A number that the packets of one flow share, in both directions if answers may depend on both. While a packet
    /// waits, younger ones with its number are kept behind it, and judged in order after it; flows that share a
    /// number by accident only wait longer. Asked only while anything waits, and of what is going to.
    fn flow(&mut self, packet: &Queued<'_>) -> u64;

    /// Pass the question on to whoever answers it through [`crate::Answers`]; false when nobody takes it, which is
    /// [`Cause::Overload`]. The packet must be copied for that: it is gone when the call returns.
    fn ask(&mut self, ticket: Ticket, packet: &Queued<'_>, suspended: &Self::Suspended) -> bool;

    /// Go on with a packet that waited. `answer` is what was given for its ticket, or why none came:
    /// [`Cause::Overload`] right after `judge`, [`Cause::Deadline`] later, also when the loop stops before the answer.
    /// The judge counts and records such a failure itself, and may not let the packet wait again after it.
    fn resume(
        &mut self,
        packet: &Queued<'_>,
        suspended: Self::Suspended,
        answer: Result<Self::Answer, Cause>,
    ) -> Judged<Self::Suspended>;

    /// The configured outcome of a cause, for a packet that the judge never saw or failed at. `packet` is `None` when
    /// not more than its place in the queue is known. `words` say what happened, for the record.
    fn fail(&mut self, cause: Cause, packet: Option<&Queued<'_>>, words: &str) -> Final;

    /// After the last packet: the place to hand over the questions of the batch at once.
    fn end_batch(&mut self) {}
}
