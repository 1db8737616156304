//! NFQUEUE: one thread, one netlink socket, one queue. Knows nothing of policies: it asks a [`Judge`].
//!
//! [`Links::open`] and [`Queue::open`] make the sockets, in the network namespace of the calling thread;
//! [`Queue::start`] starts the thread and returns its [`Handle`].

pub mod netlink;
pub mod nfqueue;
pub mod verdicts;

mod answering;
mod changes;
mod counters;
mod error;
mod guarded;
mod handle;
mod judge;
mod links;
mod mailbox;
mod serve;
mod settings;
mod socket;
mod taking;
mod waiting;

#[cfg(test)]
mod tests;

pub use changes::Change;
pub use counters::Snapshot;
pub use error::{OpenError, QueueError};
pub use guarded::words_of;
pub use handle::{Answers, Handle, Queue};
pub use judge::{Cause, Final, Judge, Judged, Ticket};
pub use links::Links;
pub use nfqueue::{Conntrack, Queued};
pub use settings::Settings;
