//! What ends a queue, or keeps it from beginning.

use std::fmt;
use std::io;

/// Why a queue, or the list of interfaces, could not be opened. Nothing is left bound.
#[derive(Debug)]
pub enum OpenError {
    /// Without `CAP_NET_ADMIN` in the namespace.
    Privilege,
    /// The kernel has no `nfnetlink_queue`.
    Absent,
    /// The queue is held by another socket.
    Taken {
        /// The queue's number.
        number: u16,
    },
    /// The kernel cannot let packets past a full queue, and was asked to.
    FailOpen,
    /// A setting that no kernel takes; says which, and what was expected.
    Setting(String),
    /// Anything else that the kernel refused.
    Refused {
        /// What it was asked for, such as `configure queue 3`.
        what: String,
        /// Its answer.
        error: io::Error,
    },
}

impl OpenError {
    pub(crate) fn refused(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self::Refused {
            what: what.into(),
            error: error.into(),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privilege => out.write_str("NFQUEUE: expected root or CAP_NET_ADMIN"),
            Self::Absent => out.write_str("NFQUEUE: this kernel has no nfnetlink_queue"),
            Self::Taken { number } => write!(out, "bind queue {number}: already held by another socket"),
            Self::FailOpen => out.write_str("fail open: this kernel cannot let packets past a full queue"),
            Self::Setting(words) => out.write_str(words),
            Self::Refused { what, error } => write!(out, "{what}: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// What ended a loop that nobody had stopped. Its packets are the kernel's to drop.
#[derive(Debug)]
pub enum QueueError {
    /// The socket cannot be read any more.
    Read {
        /// The queue's number.
        number: u16,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The loop's thread panicked outside of any judge, with these words.
    Panic(String),
}

impl fmt::Display for QueueError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { number, error } => write!(out, "read queue {number}: {error}"),
            Self::Panic(words) => write!(out, "the queue's thread panicked: {words}"),
        }
    }
}

impl std::error::Error for QueueError {}
