//! The way of other threads into a loop that blocks in a receive.

use std::mem::take;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::io::Errno;

use crate::changes::{Change, Requests};
use crate::judge::Ticket;
use crate::netlink::{ACK, NOOP, Writer};
use crate::socket::Socket;

/// `nlmsg_seq` of the request that wakes the loop.
pub(crate) const WAKE: u32 = 2;

/// What other threads want of the loop.
pub(crate) struct Post<A> {
    pub answers: Vec<(Ticket, A)>,
    pub stop: Option<Instant>,
    pub change: Option<Change>,
}

pub(crate) struct Mailbox<A> {
    pub socket: Arc<Socket>,
    post: Mutex<Post<A>>,
    pending: AtomicBool,
    pub requests: Requests,
}

impl<A> Mailbox<A> {
    pub fn new(socket: Arc<Socket>) -> Self {
        Self {
            socket,
            post: Mutex::new(Post {
                answers: Vec::new(),
                stop: None,
                change: None,
            }),
            pending: AtomicBool::new(false),
            requests: Requests::default(),
        }
    }

    fn post(&self) -> std::sync::MutexGuard<'_, Post<A>> {
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn give(&self, answers: impl IntoIterator<Item = (Ticket, A)>) -> Result<(), Errno> {
        self.post().answers.extend(answers);
        self.wake()
    }

    /// What the loop itself must know of other settings.
    pub fn change(&self, change: Change) -> Result<(), Errno> {
        self.post().change = Some(change);
        self.wake()
    }

    /// Stop, at `until` at the latest; the earliest of several holds.
    pub fn stop(&self, until: Instant) -> Result<(), Errno> {
        {
            let mut post = self.post();
            post.stop = Some(post.stop.map_or(until, |before| before.min(until)));
        }
        self.wake()
    }

    /// A request that does nothing: its answer ends the receive in which the loop may be.
    ///
    /// Where the answer finds no room, or none was sent because the last one has not been read, there is something to
    /// receive anyhow.
    pub fn wake(&self) -> Result<(), Errno> {
        if self.pending.swap(true, AcqRel) {
            return Ok(());
        }
        let mut request = Writer::default();
        request.begin(NOOP, ACK, WAKE, &[]);
        self.socket
            .send(request.bytes())
            .inspect_err(|_| self.pending.store(false, Release))
    }

    /// By the loop: what came since the last call, when anything did.
    pub fn open(&self) -> Option<Post<A>> {
        if !self.pending.load(Relaxed) || !self.pending.swap(false, AcqRel) {
            return None;
        }
        let mut post = self.post();
        Some(Post {
            answers: take(&mut post.answers),
            stop: post.stop,
            change: post.change.take(),
        })
    }
}
