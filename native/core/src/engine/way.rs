//! One packet's way through a policy: decoding, the rules that the index leaves in file order, their actions, a verdict.

use super::{Decided, Desk, Engine, Now, Outcome, Suspended};
use crate::conditions::View;
use crate::decode::Decoded;
use crate::index::Scratch;
use crate::packet::Packet;
use crate::plan::{Action, Decision, Rule};
use crate::state::tallies::Tallies;
use crate::value::{Address, Cause, Truth, Unknown, Value, What};
use crate::verdict::{Detail, Effect, Reason, Verdict};

/// One packet on its way.
pub struct Way<'e, 'a, 'd> {
    engine: &'e Engine,
    view: View<'e, 'a>,
    default: Decision,
    desk: &'d mut Desk,
}

impl Drop for Way<'_, '_, '_> {
    fn drop(&mut self) {
        // Its memory serves the next packet.
        self.desk.found = self.view.take_found();
    }
}

impl<'e, 'a, 'd> Way<'e, 'a, 'd> {
    /// A packet that nobody has looked at.
    #[inline]
    pub fn new(engine: &'e Engine, packet: &'a Packet<'a>, now: Now, default: Decision, desk: &'d mut Desk) -> Self {
        let unread = Decoded::unread(packet, engine.plan.allow);
        Self {
            engine,
            view: View::new(engine, packet, unread, now, std::mem::take(&mut desk.found)),
            default,
            desk,
        }
    }

    /// Reads its headers. The outcome of a packet whose headers lie: it meets no rule.
    #[inline]
    pub fn begin(&mut self) -> Option<Outcome> {
        let code = self.view.read_headers().err()?;
        let failure = self
            .engine
            .failure(Cause::Malformed, Detail::What(What::Malformed(code)));
        Some(self.end(failure))
    }

    /// The mark that rules have given it by now.
    pub fn set_mark(&mut self, mark: u32) {
        self.view.mark = mark;
    }

    /// The verdict of the flow that it belongs to, when a rule has decided that.
    pub fn recalled(&mut self) -> Option<Verdict> {
        if self.engine.flows.is_empty() {
            return None;
        }
        let known = |Decided { decision, rule }| Some((decision, *self.engine.flow_rules.get(&rule)?));
        let (decision, rule) = self
            .engine
            .flows
            .recall(&self.view.flow()?, self.view.now.monotonic, known)?;
        self.desk.tallies.add_rule(rule as usize, self.view.packet.wire_length);
        Some(Verdict {
            decision,
            reason: Reason::Rule,
            rule: Some(rule),
            detail: Detail::Flow,
            mark: None,
        })
    }

    /// Looks at the rules from one on; `answer` is what Python said of that one, which is not asked again.
    pub fn walk(&mut self, first: usize, mut answer: Option<Truth>) -> Outcome {
        let engine = self.engine;
        let taken = self.desk.candidates.take();
        let mut candidates = taken.unwrap_or_else(|| Box::new(engine.index.scratch()));
        engine.index.look_up(|field| self.view.read(field, 0), &mut candidates);
        let mut from = first;
        let outcome = loop {
            let (i, truth) = match answer.take() {
                Some(answer) => (from, answer),
                None => match engine.index.next(&mut candidates, from) {
                    Some(i) => (i, self.truth(i, &candidates)),
                    None => break self.end(self.verdict(self.default, Reason::Default, None)),
                },
            };
            let rule = &engine.plan.rules[i];
            engine.index.keep_awake(&mut candidates, || self.view.found());
            match self.matched(i, rule, truth) {
                Truth::True => match rule.verdict {
                    Some(decision) => break self.decided(i, rule, decision),
                    None => from = i + 1,
                },
                Truth::False => from = rule.end,
                Truth::Pending => break Outcome::Ask(self.suspended(i)),
                Truth::Unknown(unknown) => break self.undecided(i, unknown),
            }
        };
        self.desk.candidates = Some(candidates);
        outcome
    }

    /// Whether the condition of a candidate is true of the packet.
    fn truth(&self, i: usize, candidates: &Scratch) -> Truth {
        let rule = &self.engine.plan.rules[i];
        if !rule.applies(self.view.packet.hook) {
            Truth::False
        } else if candidates.all_known() {
            self.view.every(self.engine.index.residual(i))
        } else {
            self.view.holds(&rule.condition)
        }
    }

    /// Whether a rule whose condition has this truth matches; when it does, its actions are done.
    fn matched(&mut self, i: usize, rule: &Rule, truth: Truth) -> Truth {
        match truth {
            Truth::True => match self.passes(i, rule) {
                Truth::True => self.act(i, rule),
                other => other,
            },
            other => other,
        }
    }

    fn passes(&mut self, i: usize, rule: &Rule) -> Truth {
        let (Some(limit), Some(buckets)) = (&rule.limit, &self.engine.limits[i]) else {
            return Truth::True;
        };
        self.desk.key.clear();
        for field in &limit.per {
            match self.view.read(*field, 0).exact() {
                Value::Absent => return Truth::False,
                Value::Unknown(unknown) => return Truth::Unknown(unknown),
                value => append_key(&mut self.desk.key, &value),
            }
        }
        (buckets.take(&self.desk.key, self.view.now.monotonic) != limit.over).into()
    }

    /// Does a matching rule's actions, or none of them when one needs a value that is unknown.
    fn act(&mut self, i: usize, rule: &Rule) -> Truth {
        for action in &rule.actions {
            if let Action::Add { field, .. } | Action::Delete { field, .. } = action
                && let Value::Unknown(unknown) = self.view.read(*field, 0).exact()
            {
                return Truth::Unknown(unknown);
            }
        }
        self.desk.tallies.add_rule(i, self.view.packet.wire_length);
        for (number, action) in rule.actions.iter().enumerate() {
            self.take_action(i, number, *action);
        }
        Truth::True
    }

    fn take_action(&mut self, rule: usize, number: usize, action: Action) {
        let now = self.view.now.monotonic;
        match action {
            Action::Log | Action::Capture => {
                self.desk.effects.push(Effect {
                    rule: rule as u32,
                    action: number as u32,
                });
            }
            Action::Count(counter) => self.desk.tallies.add_counter(counter, self.view.packet.wire_length),
            Action::Mark { value, mask } => self.view.mark = self.view.mark & !mask | value,
            Action::Add { set, field, timeout } => {
                let set = &self.engine.sets[set];
                self.view.each_element(field, |element| {
                    set.add(element, timeout, now);
                });
            }
            Action::Delete { set, field } => {
                let set = &self.engine.sets[set];
                self.view.each_element(field, |element| {
                    set.delete(element, now);
                });
            }
        }
    }

    fn decided(&mut self, i: usize, rule: &Rule, decision: Decision) -> Outcome {
        if rule.flow
            && let Some(key) = self.engine.flow_keys.get(&(i as u32))
            && let Some(packet) = self.view.flow()
        {
            self.engine
                .flows
                .remember(&packet, Decided { decision, rule: *key }, self.view.now.monotonic);
        }
        self.end(self.verdict(decision, Reason::Rule, Some(i as u32)))
    }

    fn undecided(&mut self, i: usize, unknown: Unknown) -> Outcome {
        let failure = self.engine.failure(unknown.cause, Detail::What(unknown.what));
        self.end(Verdict {
            detail: failure.detail,
            ..self.verdict(failure.decision, failure.reason, Some(i as u32))
        })
    }

    fn suspended(&mut self, i: usize) -> Suspended {
        Suspended {
            rule: i as u32,
            mark: self.view.mark,
            now: self.view.now,
            effects: std::mem::take(&mut self.desk.effects),
        }
    }

    fn verdict(&self, decision: Decision, reason: Reason, rule: Option<u32>) -> Verdict {
        let mark = Some(self.view.mark).filter(|mark| *mark != self.view.packet.mark);
        Verdict {
            decision,
            reason,
            rule,
            detail: Detail::None,
            mark,
        }
    }

    /// Counts it.
    pub fn end(&mut self, verdict: Verdict) -> Outcome {
        ended(self.view.packet, verdict, &self.desk.tallies)
    }
}

/// A value as part of a bucket's key; a field's values are all of one kind, but for addresses.
fn append_key(key: &mut Vec<u8>, value: &Value<'_>) {
    let mut bytes = |bytes: &[u8]| {
        key.extend_from_slice(&(bytes.len() as u32).to_ne_bytes());
        key.extend_from_slice(bytes);
    };
    match value {
        Value::Number(number) => bytes(&number.to_ne_bytes()),
        Value::Address(Address::V4(number)) => bytes(&number.to_ne_bytes()),
        Value::Address(Address::V6(number)) => bytes(&number.to_ne_bytes()),
        Value::Bytes(text) => bytes(text),
        Value::Numbers(numbers) => bytes(numbers.as_slice()),
        Value::Absent | Value::Unknown(_) | Value::PartialBytes { .. } | Value::PartialNumbers { .. } => {}
    }
}

pub fn ended(packet: &Packet<'_>, verdict: Verdict, tallies: &Tallies) -> Outcome {
    count(packet, &verdict, tallies);
    Outcome::Verdict(verdict)
}

pub fn count(packet: &Packet<'_>, verdict: &Verdict, tallies: &Tallies) {
    let length = packet.wire_length;
    tallies.add_kind(verdict.decision.kind, length);
    match verdict.reason {
        Reason::Rule => {}
        Reason::Default => tallies.add_default(packet.hook, length),
        Reason::Cause(cause) => {
            tallies.add_cause(cause, length);
            if let (Cause::Malformed, Detail::What(What::Malformed(code))) = (cause, verdict.detail) {
                tallies.add_malformed(code);
            }
        }
    }
}
