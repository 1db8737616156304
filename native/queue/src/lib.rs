//! NFQUEUE: one thread, one netlink socket, one queue. Knows nothing of policies: it asks a [`Judge`].
//!
//! [`Links::open`] and [`Queue::open`] make the sockets, in the network namespace of the calling thread;
//! [`Queue::start`] starts the thread and returns its [`Handle`].

pub mod netlink;
pub mod nfqueue;
pub mod verdicts;

mod error;
mod judge;
mod settings;

pub use error::{OpenError, QueueError};
pub use judge::{Cause, Final, Judge, Judged, Ticket};
pub use nfqueue::{Conntrack, Queued};
pub use settings::Settings;
