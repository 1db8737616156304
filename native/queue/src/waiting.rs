//! The packets that wait: each for the answer to its question, or behind an older packet of its flow. Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use crate::judge::Ticket;
use crate::links::Known;
use crate::verdicts::Place;

/// A packet that waits.
pub(crate) struct Held {
    pub place: Place,
    pub flow: u64,
    /// When it has waited long enough; `None` for never.
    pub until: Option<Instant>,
    /// The message that it came in.
    pub datagram: Box<[u8]>,
    /// Of its interfaces, when it came.
    pub names: Known,
}

enum State<S, P> {
    Asked(S),
    Behind(P),
}

/// A bounded room. Of each flow the oldest packet has been asked about, the others stand behind it.
///
/// A packet that was taken out to be decided keeps its flow busy until [`Waiting::next`] or [`Waiting::ask`].
///
/// `S` is what the judge goes on with, `P` what it is to judge a packet by that stands behind.
pub(crate) struct Waiting<S, P> {
    capacity: usize,
    tickets: u64,
    packets: HashMap<Ticket, (Held, State<S, P>)>,
    flows: HashMap<u64, VecDeque<Ticket>>,
    // Only of the packets that were asked about: whoever stands behind one of them is not due earlier.
    deadlines: BTreeSet<(Instant, Ticket)>,
}

impl<S, P> Waiting<S, P> {
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            tickets: 0,
            packets: HashMap::new(),
            flows: HashMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    /// Another size; who is in stays in.
    pub fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
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
    pub fn stand_behind(&mut self, held: Held, policy: P) {
        if let Some(until) = held.until {
            self.hurry(held.flow, until);
        }
        let ticket = self.ticket();
        self.flows.entry(held.flow).or_default().push_back(ticket);
        self.packets.insert(ticket, (held, State::Behind(policy)));
    }

    /// Has the packets of a flow wait no longer than until then. Only the settings' change made them wait for more: who
    /// came later is due later but for that.
    fn hurry(&mut self, flow: u64, until: Instant) {
        for ticket in self.flows.get(&flow).into_iter().flatten().rev() {
            let Some((held, state)) = self.packets.get_mut(ticket) else {
                return;
            };
            let before = held.until;
            if before.is_some_and(|before| before <= until) {
                return;
            }
            held.until = Some(until);
            if matches!(state, State::Asked(_)) {
                if let Some(before) = before {
                    self.deadlines.remove(&(before, *ticket));
                }
                self.deadlines.insert((until, *ticket));
            }
        }
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
    pub fn next(&mut self, flow: u64) -> Option<(Held, P)> {
        let others = self.flows.get_mut(&flow)?;
        others.pop_front();
        let Some(ticket) = others.front() else {
            self.flows.remove(&flow);
            return None;
        };
        match self.packets.remove(ticket)? {
            (held, State::Behind(policy)) => Some((held, policy)),
            (_, State::Asked(_)) => unreachable!("only the first of a flow was asked about"),
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::verdicts::Planner;

    struct Scene {
        waiting: Waiting<&'static str, u8>,
        planner: Planner,
        start: Instant,
    }

    impl Scene {
        fn new(capacity: usize) -> Self {
            Self {
                waiting: Waiting::new(capacity),
                planner: Planner::new(0),
                start: Instant::now(),
            }
        }

        fn held(&mut self, id: u8, flow: u64) -> Held {
            let place = self.planner.arrive(id.into()).0;
            Held {
                place,
                flow,
                until: Some(self.at(id)),
                datagram: [id].into(),
                names: Known::default(),
            }
        }

        fn at(&self, seconds: u8) -> Instant {
            self.start + Duration::from_secs(seconds.into())
        }

        fn ask(&mut self, id: u8, flow: u64) -> Ticket {
            let (ticket, held) = (self.waiting.ticket(), self.held(id, flow));
            self.waiting.ask(ticket, held, "asked");
            ticket
        }
    }

    fn id(held: Option<Held>) -> Option<u8> {
        held.map(|held| held.datagram[0])
    }

    #[test]
    fn a_flow_is_busy_until_its_last_packet_is_decided() {
        let mut scene = Scene::new(9);
        let first = scene.ask(1, 7);
        for later in [2, 3] {
            let held = scene.held(later, 7);
            scene.waiting.stand_behind(held, later);
        }
        assert_eq!(
            (scene.waiting.len(), scene.waiting.is_busy(7), scene.waiting.is_busy(8)),
            (3, true, false)
        );
        assert!(scene.waiting.take(first).is_some_and(|(_, state)| state == "asked"));
        assert!(scene.waiting.take(first).is_none(), "an answer that comes twice");
        assert!(scene.waiting.is_busy(7), "while it is judged");
        for expected in [Some((2, 2)), Some((3, 3)), None] {
            let next = scene.waiting.next(7).map(|(held, policy)| (held.datagram[0], policy));
            assert_eq!(next, expected, "each with what it is to be judged by");
        }
        assert!(scene.waiting.is_empty() && !scene.waiting.is_busy(7) && scene.waiting.next_deadline().is_none());
    }

    #[test]
    fn a_packet_that_is_asked_about_again_has_another_ticket_and_keeps_its_place() {
        let mut scene = Scene::new(9);
        let first = scene.ask(1, 7);
        let behind = scene.held(2, 7);
        scene.waiting.stand_behind(behind, 0);
        let (held, _) = scene.waiting.take(first).unwrap();
        let second = scene.waiting.ticket();
        scene.waiting.ask(second, held, "asked again");
        assert!(scene.waiting.take(first).is_none());
        assert!(
            scene
                .waiting
                .take(second)
                .is_some_and(|(_, state)| state == "asked again")
        );
        assert_eq!(id(scene.waiting.next(7).map(|(held, _)| held)), Some(2));
    }

    #[test]
    fn nobody_answers_for_a_packet_that_stands_behind() {
        let mut scene = Scene::new(9);
        scene.ask(1, 7);
        let behind = scene.held(2, 7);
        scene.waiting.stand_behind(behind, 0);
        assert!(scene.waiting.take(Ticket(2)).is_none());
        assert_eq!(scene.waiting.len(), 2);
    }

    #[test]
    fn nobody_waits_longer_than_who_stands_behind() {
        let mut scene = Scene::new(9);
        let ticket = scene.waiting.ticket();
        for (id, until) in [(1, None), (2, None), (3, Some(9)), (4, Some(5))] {
            let held = Held {
                until: until.map(|seconds| scene.at(seconds)),
                ..scene.held(id, 7)
            };
            if id == 1 {
                scene.waiting.ask(ticket, held, "asked");
            } else {
                scene.waiting.stand_behind(held, id);
            }
        }
        let now = scene.at(5);
        assert_eq!(scene.waiting.next_deadline(), Some(now));
        assert_eq!(id(scene.waiting.take_overdue(now).map(|(held, _)| held)), Some(1));
        for expected in [2, 3, 4] {
            let (held, _) = scene.waiting.next(7).unwrap();
            assert_eq!((held.datagram[0], held.until), (expected, Some(now)));
        }
    }

    #[test]
    fn the_overdue_come_out_by_the_time_they_came() {
        let mut scene = Scene::new(3);
        for (id, flow) in [(1, 7), (2, 8), (3, 9)] {
            assert!(!scene.waiting.is_full());
            scene.ask(id, flow);
        }
        assert!(scene.waiting.is_full());
        assert_eq!(scene.waiting.next_deadline(), Some(scene.at(1)));
        let now = scene.at(2);
        for expected in [Some(1), Some(2), None] {
            let overdue = scene.waiting.take_overdue(now).map(|(held, _)| held);
            let flow = overdue.as_ref().map(|held| held.flow);
            assert_eq!(id(overdue), expected);
            assert!(flow.is_none_or(|flow| scene.waiting.next(flow).is_none()));
        }
        assert_eq!(id(scene.waiting.take_any().map(|(held, _)| held)), Some(3));
    }
}
