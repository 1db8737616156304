//! Packets that wait: how they begin to, and how it ends.

use std::time::Instant;

use crate::judge::{Cause, Final, Judge, Judged, Ticket};
use crate::links::Known;
use crate::nfqueue::{Queued, decode_datagram};
use crate::serve::Serving;
use crate::verdicts::Place;
use crate::waiting::Held;

const NO_ROOM: &str = "no room for one more packet that waits";
const NOBODY: &str = "nobody takes the question";
const TOO_LATE: &str = "no answer in time";
const STOPPED: &str = "the queue was stopped before the answer came";

impl<J: Judge> Serving<J> {
    /// A packet that was judged must wait.
    pub(crate) fn begin_to_wait(
        &mut self,
        packet: &Queued<'_>,
        place: Place,
        suspended: J::Suspended,
        datagram: &[u8],
        names: &Known,
    ) {
        let asked = self.judge.flow(packet).and_then(|flow| {
            let (ticket, suspended) = self.ask(packet, suspended)?;
            Ok((flow, ticket, suspended))
        });
        match asked {
            Ok((flow, ticket, suspended)) => {
                self.planner.wait(place);
                let held = self.held(place, flow, datagram, names);
                self.waiting.ask(ticket, held, suspended);
            }
            Err(decided) => self.decide(place, decided),
        }
    }

    /// A packet of a flow that has an older one waiting is judged after that.
    pub(crate) fn hold_behind(&mut self, packet: &Queued<'_>, place: Place, flow: u64, datagram: &[u8], names: &Known) {
        if self.waiting.is_full() {
            let decided = self.judge.fail(Cause::Overload, Some(packet), NO_ROOM);
            return self.decide(place, decided);
        }
        let policy = match self.judge.policy(packet) {
            Ok(policy) => policy,
            Err(decided) => return self.decide(place, decided),
        };
        self.planner.wait(place);
        let held = self.held(place, flow, datagram, names);
        self.waiting.stand_behind(held, policy);
    }

    fn held(&self, place: Place, flow: u64, datagram: &[u8], names: &Known) -> Held {
        let until = self
            .settings
            .deadline
            .and_then(|deadline| Instant::now().checked_add(deadline));
        Held {
            place,
            flow,
            until,
            datagram: datagram.into(),
            names: names.clone(),
        }
    }

    /// The answer to a question came.
    pub(crate) fn answered(&mut self, ticket: Ticket, answer: J::Answer) {
        let Some((held, suspended)) = self.waiting.take(ticket) else {
            return self.counters.late_answers.add(1);
        };
        self.look_again(held, |judge, packet| judge.judge.resume(packet, suspended, answer));
    }

    /// The verdict of every packet that has waited long enough.
    pub(crate) fn give_up_overdue(&mut self) {
        if self.waiting.next_deadline().is_none() {
            return;
        }
        let now = Instant::now();
        while let Some((held, suspended)) = self.waiting.take_overdue(now) {
            self.give_up(held, suspended, TOO_LATE);
        }
    }

    /// The verdict of every packet that still waits, at the end.
    pub(crate) fn give_up_all(&mut self) {
        while let Some((held, suspended)) = self.waiting.take_any() {
            self.give_up(held, suspended, STOPPED);
        }
    }

    fn give_up(&mut self, held: Held, suspended: J::Suspended, words: &str) {
        self.look_again(held, |serving, packet| {
            Judged::Final(serving.judge.give_up(packet, suspended, Cause::Deadline, words))
        });
    }

    /// Judges a packet that waited, by `judge`, and when that decides it, those behind it until one waits: each by what
    /// was in force when it came.
    fn look_again(&mut self, held: Held, judge: impl FnOnce(&mut Self, &Queued<'_>) -> Judged<J::Suspended>) {
        let mut next = self.look_at(held, judge);
        while let Some((held, policy)) = next {
            next = self.look_at(held, |serving, packet| serving.judge.judge_by(policy, packet));
        }
    }

    /// Judges the first packet of a flow; once it is decided, gives the one behind it.
    fn look_at(
        &mut self,
        held: Held,
        judge: impl FnOnce(&mut Self, &Queued<'_>) -> Judged<J::Suspended>,
    ) -> Option<(Held, J::Policy)> {
        match self.judge_held(&held, judge) {
            Ok((ticket, suspended)) => {
                self.waiting.ask(ticket, held, suspended);
                None
            }
            Err(decided) => {
                self.decide(held.place, decided);
                self.waiting.next(held.flow)
            }
        }
    }

    fn judge_held(
        &mut self,
        held: &Held,
        judge: impl FnOnce(&mut Self, &Queued<'_>) -> Judged<J::Suspended>,
    ) -> Result<(Ticket, J::Suspended), Final> {
        let mut packet = decode_datagram(&held.datagram)
            .map_err(|damaged| self.judge.fail(Cause::Error, None, &damaged.to_string()))?;
        // Renamed meanwhile, an interface would make of it another packet than the one that was asked about.
        held.names.give(&mut packet);
        match judge(self, &packet) {
            Judged::Final(decided) => Err(decided),
            Judged::Wait(suspended) => self.ask(&packet, suspended),
        }
    }

    /// Asks the question of a packet that must wait: the ticket, or the verdict where nobody is to answer.
    fn ask(&mut self, packet: &Queued<'_>, suspended: J::Suspended) -> Result<(Ticket, J::Suspended), Final> {
        if self.waiting.is_full() {
            return Err(self.judge.give_up(packet, suspended, Cause::Overload, NO_ROOM));
        }
        let ticket = self.waiting.ticket();
        if self.judge.ask(ticket, packet, &suspended)? {
            return Ok((ticket, suspended));
        }
        Err(self.judge.give_up(packet, suspended, Cause::Overload, NOBODY))
    }
}
