//! The packets that wait: each for the answer to its question, or behind an older packet of its flow. Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use crate::judge::Ticket;
use crate::verdicts::Place;

/// A packet that waits.
pub(crate) struct Held {
    pub place: Place,
    pub flow: u64,
    /// When it has waited long enough; `None` for never.
    pub until: Option<Instant>,
    /// The message that it came in.
    pub datagram: Box<[u8]>,
}

enum State<S> {
    Asked(S),
    Behind,
}

/// A bounded room. Of each flow the oldest packet has been asked about, the others stand behind it.
///
/// A packet that was taken out to be decided keeps its flow busy until [`Waiting::next`] or [`Waiting::ask`].
pub(crate) struct Waiting<S> {
    capacity: usize,
    tickets: u64,
    packets: HashMap<Ticket, (Held, State<S>)>,
    flows: HashMap<u64, VecDeque<Ticket>>,
    // Only of the packets that were asked about: whoever stands behind one of them came later.
    deadlines: BTreeSet<(Instant, Ticket)>,
}

impl<S> Waiting<S> {
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            tickets: 0,
            packets: HashMap::new(),
            flows: HashMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.packets.len()
    }

    pub fn is_full(&self) -> bool {
        self.packets.len() >= self.capacity
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether a packet of the flow waits already.
    pub fn is_busy(&self, flow: u64) -> bool {
        self.flows.contains_key(&flow)
    }

    /// A ticket that nobody had.
    pub fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// The first packet of its flow waits for the answer to a question.
    pub fn ask(&mut self, ticket: Ticket, held: Held, state: S) {
        let flow = self.flows.entry(held.flow).or_default();
        // The packet may have been asked about before, with another ticket.
        flow.pop_front();
        flow.push_front(ticket);
        if let Some(until) = held.until {
            self.deadlines.insert((until, ticket));
        }
        self.packets.insert(ticket, (held, State::Asked(state)));
    }

    /// A packet waits behind the others of its flow.
    pub fn stand_behind(&mut self, held: Held) {
        let ticket = self.ticket();
        self.flows.entry(held.flow).or_default().push_back(ticket);
        self.packets.insert(ticket, (held, State::Behind));
    }

    /// The packet that was asked about with that ticket; `None` when it waits no more.
    pub fn take(&mut self, ticket: Ticket) -> Option<(Held, S)> {
        match self.packets.remove(&ticket)? {
            (held, State::Asked(state)) => {
                if let Some(until) = held.until {
                    self.deadlines.remove(&(until, ticket));
                }
                Some((held, state))
            }
            behind => {
                self.packets.insert(ticket, behind);
                None
            }
        }
    }

    /// The flow's first packet is decided: out with it, and out with the one behind it, which is to be decided now.
    pub fn next(&mut self, flow: u64) -> Option<Held> {
        let others = self.flows.get_mut(&flow)?;
        others.pop_front();
        let Some(ticket) = others.front() else {
            self.flows.remove(&flow);
            return None;
        };
        self.packets.remove(ticket).map(|(held, _)| held)
    }

    /// When the next packet has waited long enough.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    /// A packet that has waited long enough.
    pub fn take_overdue(&mut self, now: Instant) -> Option<(Held, S)> {
        let (until, ticket) = *self.deadlines.first()?;
        if until > now {
            return None;
        }
        self.take(ticket)
    }

    /// Any packet that was asked about, so that in the end all are out.
    pub fn take_any(&mut self) -> Option<(Held, S)> {
        let ticket = *self.flows.values().next()?.front()?;
        self.take(ticket)
    }
}
