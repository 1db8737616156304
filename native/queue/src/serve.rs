//! The loop: receive, judge, send, until it is stopped or the socket is gone.

use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;

use crate::counters::Counters;
use crate::error::QueueError;
use crate::guarded::Guarded;
use crate::judge::{Final, Judge};
use crate::links::{Links, Names};
use crate::mailbox::{Mailbox, Post};
use crate::netlink::Writer;
use crate::nfqueue::unbind;
use crate::settings::Settings;
use crate::socket::{Slots, Socket};
use crate::verdicts::{Place, Planner};
use crate::waiting::Waiting;

/// One queue and all that its thread owns. Packets come in by `taking.rs`; those that wait leave by `answering.rs`.
pub(crate) struct Serving<J: Judge> {
    pub settings: Settings,
    pub socket: Arc<Socket>,
    pub mailbox: Arc<Mailbox<J::Answer>>,
    pub counters: Arc<Counters>,
    pub judge: Guarded<J>,
    pub planner: Planner,
    pub waiting: Waiting<J::Suspended, J::Policy>,
    pub stop: Option<Stop>,
}

/// A stop that was asked for.
pub(crate) struct Stop {
    until: Instant,
    /// Packets that were in the kernel's queue then, at most: others may go on filling it.
    left: u64,
    /// There was nothing more to receive.
    empty: bool,
}

impl<J: Judge> Serving<J> {
    /// Until it is stopped. The queue is unbound at the end, however that comes.
    pub fn run(mut self, mut slots: Slots, links: &Links) -> Result<(), QueueError> {
        let served = self.serve(&mut slots, &mut links.names());
        let mut request = Writer::default();
        unbind(&mut request, self.settings.number);
        let unbound = self.socket.send(request.bytes());
        served.and(unbound).map_err(|errno| QueueError::Read {
            number: self.settings.number,
            error: errno.into(),
        })
    }

    fn serve(&mut self, slots: &mut Slots, names: &mut Names<'_>) -> Result<(), Errno> {
        while !self.has_ended() {
            self.receive(slots)?;
            names.reload();
            self.judge.begin_batch();
            self.open_mailbox();
            for (datagram, cut) in slots.datagrams() {
                self.take(datagram, cut, names);
            }
            self.give_up_overdue();
            self.end_batch();
        }
        self.judge.begin_batch();
        self.give_up_all();
        self.end_batch();
        Ok(())
    }

    fn end_batch(&mut self) {
        self.judge.end_batch();
        self.counters.waiting.set(self.waiting.len() as u64);
        self.planner.flush(|messages| {
            self.counters.sends.add(1);
            let sent = self.socket.send(messages);
            if let Err(errno) = sent {
                self.counters.error(errno.raw_os_error());
            }
            sent.is_ok()
        });
    }

    fn has_ended(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| {
            let drained = stop.empty || stop.left == 0;
            drained && self.waiting.is_empty() || Instant::now() >= stop.until
        })
    }

    /// Fills the slots with what is there, none perhaps. Blocks only while there is nothing to do.
    fn receive(&mut self, slots: &mut Slots) -> Result<(), Errno> {
        let until = self.next_moment();
        let mut received = self.socket.receive(slots, until.is_none());
        if received == Err(Errno::AGAIN)
            && let Some(until) = until
        {
            if let Some(stop) = &mut self.stop {
                stop.empty = true;
            }
            if !self.has_ended() {
                self.socket.wait(until)?;
                received = self.socket.receive(slots, false);
            }
        }
        match received {
            Ok(()) => self.counters.receives.add(1),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno @ (Errno::NOBUFS | Errno::NOMEM)) => self.counters.error(errno.raw_os_error()),
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// When the loop must go on though nothing comes.
    fn next_moment(&self) -> Option<Instant> {
        let stop = self.stop.as_ref().map(|stop| stop.until);
        self.waiting.next_deadline().into_iter().chain(stop).min()
    }

    fn open_mailbox(&mut self) {
        let Some(Post { answers, stop, change }) = self.mailbox.open() else {
            return;
        };
        if let Some(change) = change {
            self.settings.length = change.length;
            self.settings.deadline = change.deadline;
            self.waiting.resize(change.waiting);
        }
        if let Some(until) = stop {
            let left = self.stop.as_ref().map_or(self.settings.length.into(), |stop| stop.left);
            self.stop = Some(Stop {
                until,
                left,
                empty: false,
            });
        }
        for (ticket, answer) in answers {
            self.answered(ticket, answer);
        }
    }

    /// One more packet came from the kernel.
    pub(crate) fn received(&mut self) {
        self.counters.received.add(1);
        if let Some(stop) = &mut self.stop {
            stop.left = stop.left.saturating_sub(1);
        }
    }

    /// The verdict of a packet that arrived or waited.
    pub(crate) fn decide(&mut self, place: Place, decided: Final) {
        self.counters.decided(decided);
        self.planner.decide(place, decided);
    }
}
