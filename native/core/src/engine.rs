//! A plan in force: packets in, verdicts out. `qfilter/engine/reference.py` is the specification.
//!
//! A packet whose headers lie is decided before any rule; then a flow that a rule has decided; then the rules in file
//! order, of which only those are looked at that the index leaves; then the hook's default.

mod way;

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use jiff::tz::TimeZone;

use crate::conditions::View;
use crate::decode::{Ends, decode, ends};
use crate::fields::Field;
use crate::index::{self, Index};
use crate::literals::{self, Searcher};
use crate::packet::Packet;
use crate::plan::{self, Action, Decision, Elements, Kind, Plan};
use crate::state::flows::Flows;
use crate::state::limits::Buckets;
use crate::state::sets::{self, LiveSet};
use crate::state::tallies::Tallies;
use crate::value::{Address, Cause, Truth, Unknown, Value, What};
use crate::verdict::{Detail, Effect, Reason, Verdict};

use self::way::{Way, count, ended};

/// One policy in force. Shared by all threads that judge packets; each has a [`Desk`] of its own.
pub struct Engine {
    pub(crate) plan: Arc<Plan>,
    pub(crate) index: Arc<Index>,
    pub(crate) searcher: Arc<Searcher>,
    pub(crate) sets: Vec<LiveSet>,
    pub(crate) zone: TimeZone,
    limits: Vec<Option<Arc<Buckets>>>,
    flows: Arc<Flows<Decided>>,
    /// Rules that decide flows: index by key and key by index.
    flow_rules: HashMap<FlowRule, u32>,
    flow_keys: HashMap<u32, FlowRule>,
}

/// A rule that decides flows, the same while the policies change around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FlowRule(u64);

/// No two rules of a process share one, unless one of them inherited the other's flows.
static NEXT_FLOW_RULE: AtomicU64 = AtomicU64::new(0);

/// What a thread needs to judge packets, and what it has counted.
pub struct Desk {
    /// Packets and bytes; others may read it at any time.
    pub tallies: Arc<Tallies>,
    /// What matched rules want recorded of the last packet, in the order in which they matched.
    pub effects: Vec<Effect>,
    candidates: Option<Box<index::Scratch>>,
    found: literals::Found,
    key: Vec<u8>,
}

/// When a packet is judged.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Nanoseconds on a clock that never jumps: limits and time-outs count on it.
    pub monotonic: i64,
    /// Seconds since the epoch, for packets without a timestamp.
    pub wall: f64,
}

/// How far a packet has come.
#[derive(Debug)]
pub enum Outcome {
    /// To its end.
    Verdict(Verdict),
    /// To a rule that only Python can decide.
    Ask(Suspended),
}

/// A packet before a rule that only Python can decide: what [`Engine::resume`] needs beside the packet.
#[derive(Debug)]
pub struct Suspended {
    /// Index of the rule whose whole match is asked for.
    pub rule: u32,
    /// The packet's mark by now.
    pub mark: u32,
    /// When it was judged first.
    pub now: Now,
    effects: Vec<Effect>,
}

/// What the rest of a flow gets.
#[derive(Clone, Copy, Debug)]
struct Decided {
    decision: Decision,
    rule: FlowRule,
}

impl Engine {
    /// Puts a plan in force.
    ///
    /// # Errors
    /// Names the rule whose pattern this build cannot compile.
    pub fn new(plan: Plan, zone: TimeZone) -> Result<Self, String> {
        let searcher = Searcher::build(&plan)?;
        let index = Index::build(&plan, |test| searcher.needs(test));
        Ok(Self::with(Arc::new(plan), Arc::new(index), Arc::new(searcher), zone))
    }

    /// Another engine of the same plan, which knows nothing yet.
    #[must_use]
    pub fn fresh(&self, zone: TimeZone) -> Self {
        Self::with(
            Arc::clone(&self.plan),
            Arc::clone(&self.index),
            Arc::clone(&self.searcher),
            zone,
        )
    }

    fn with(plan: Arc<Plan>, index: Arc<Index>, searcher: Arc<Searcher>, zone: TimeZone) -> Self {
        let sets = plan.sets.iter().map(|set| live_set(set, &plan)).collect();
        let limits = plan.rules.iter().map(|rule| rule.limit.as_ref().map(buckets)).collect();
        let deciders = plan.rules.iter().enumerate().filter(|(_, rule)| rule.flow);
        let flow_keys = deciders
            .map(|(i, _)| (i as u32, FlowRule(NEXT_FLOW_RULE.fetch_add(1, Relaxed))))
            .collect();
        let (flows, flow_rules) = (Arc::default(), HashMap::new());
        let mut engine = Self {
            plan,
            index,
            searcher,
            sets,
            zone,
            limits,
            flows,
            flow_rules,
            flow_keys,
        };
        engine.know_flow_rules();
        engine
    }

    fn know_flow_rules(&mut self) {
        self.flow_rules = self.flow_keys.iter().map(|(rule, key)| (*key, *rule)).collect();
    }

    /// Takes over what another engine knows by name, before this one has judged anything: what was added to sets, the
    /// buckets of limits that are the same, and the flows that the rules of `kept` decided. Both share it from then on.
    pub fn inherit(&mut self, former: &Self, kept: &HashSet<String>) {
        for (set, ours) in self.sets.iter_mut().zip(&self.plan.sets) {
            let alike = |theirs: &plan::Set| theirs.name == ours.name && theirs.kind == ours.kind;
            if let Some(i) = former.plan.sets.iter().position(alike) {
                *set = set.clone().inheriting(&former.sets[i]);
            }
        }
        let theirs: HashMap<&str, usize> = former
            .plan
            .rules
            .iter()
            .enumerate()
            .map(|(i, rule)| (&*rule.id, i))
            .collect();
        for (i, rule) in self.plan.rules.iter().enumerate() {
            let Some(&j) = theirs.get(&*rule.id) else { continue };
            if rule.limit.is_some() && rule.limit == former.plan.rules[j].limit {
                self.limits[i].clone_from(&former.limits[j]);
            }
            if let Some(key) = former
                .flow_keys
                .get(&(j as u32))
                .filter(|_| rule.flow && kept.contains(&rule.id))
            {
                self.flow_keys.insert(i as u32, *key);
            }
        }
        self.flows = Arc::clone(&former.flows);
        self.know_flow_rules();
    }

    /// What its index of rules is made of.
    #[must_use]
    pub fn structure(&self) -> index::Structure {
        self.index.structure()
    }

    /// The policy's sets, in its order.
    #[must_use]
    pub fn sets(&self) -> &[LiveSet] {
        &self.sets
    }

    /// A desk for one more thread.
    #[must_use]
    pub fn desk(&self) -> Desk {
        self.desk_with(Arc::new(self.tallies()))
    }

    /// Counts of nothing yet.
    #[must_use]
    pub fn tallies(&self) -> Tallies {
        Tallies::new(self.plan.rules.len(), self.plan.counters.len())
    }

    /// A fresh desk that goes on counting where another has stopped.
    #[must_use]
    pub fn desk_with(&self, tallies: Arc<Tallies>) -> Desk {
        Desk {
            tallies,
            effects: Vec::with_capacity(16),
            candidates: Some(Box::new(self.index.scratch())),
            found: self.searcher.found(),
            key: Vec::with_capacity(128),
        }
    }

    /// Judges a packet. What its rules want recorded is in `desk.effects` when this gives a verdict.
    pub fn decide(&self, packet: &Packet<'_>, now: Now, desk: &mut Desk) -> Outcome {
        desk.effects.clear();
        self.set_out(packet, now, desk, |way| match way.recalled() {
            Some(verdict) => way.end(verdict),
            None => way.walk(0, None),
        })
    }

    /// Goes on with a packet once Python has told what the match of the suspended rule is; `answer` is never `Pending`.
    pub fn resume(&self, packet: &Packet<'_>, suspended: Suspended, answer: Truth, desk: &mut Desk) -> Outcome {
        desk.effects = suspended.effects;
        self.set_out(packet, suspended.now, desk, |way| {
            way.set_mark(suspended.mark);
            way.walk(suspended.rule as usize, Some(answer))
        })
    }

    /// Lets a packet go its way, unless it meets no rule.
    #[inline]
    fn set_out(
        &self,
        packet: &Packet<'_>,
        now: Now,
        desk: &mut Desk,
        go: impl FnOnce(&mut Way<'_, '_, '_>) -> Outcome,
    ) -> Outcome {
        let Some(default) = self.plan.defaults[packet.hook as usize] else {
            let failure = self.failure(Cause::Error, Detail::NoDefault(packet.hook));
            return ended(packet, failure, &desk.tallies);
        };
        let mut way = Way::new(self, packet, now, default, desk);
        way.begin().unwrap_or_else(|| go(&mut way))
    }

    /// The verdict of a packet that got none here: its judge failed, no room to wait in was left, time was up.
    pub fn fail(&self, packet: &Packet<'_>, suspended: Option<&Suspended>, cause: Cause, desk: &mut Desk) -> Verdict {
        let mark = suspended
            .map(|suspended| suspended.mark)
            .filter(|mark| *mark != packet.mark);
        let rule = suspended.map(|suspended| suspended.rule);
        let verdict = Verdict {
            rule,
            mark,
            ..self.failure(cause, Detail::None)
        };
        count(packet, &verdict, &desk.tallies);
        verdict
    }

    /// A field of a packet, at most [`crate::conditions::MAX_DEPTH`] tunnels inside. Of a malformed one every field of
    /// its headers is unknown here.
    pub fn read<'a>(&self, packet: &'a Packet<'a>, field: Field, depth: u8, now: Now) -> Value<'a> {
        match decode(packet, self.plan.allow) {
            Ok(decoded) => View::new(self, packet, decoded, now, literals::Found::default()).read(field, depth),
            Err(code) => Value::Unknown(Unknown {
                cause: Cause::Malformed,
                what: What::Malformed(code),
            }),
        }
    }

    /// Between whom a packet goes, also a malformed one.
    #[must_use]
    pub fn ends(&self, packet: &Packet<'_>) -> Ends {
        ends(packet, self.plan.allow)
    }

    /// The bits of the mark that hand rejects back; 0 when the policy rejects nothing.
    #[must_use]
    pub fn mark_mask(&self) -> u32 {
        self.plan.mark_mask
    }

    /// A rule's id.
    #[must_use]
    pub fn rule_id(&self, rule: u32) -> &str {
        &self.plan.rules[rule as usize].id
    }

    /// Whether an effect writes the packet to a file.
    #[must_use]
    pub fn captures(&self, effect: Effect) -> bool {
        self.plan.rules[effect.rule as usize].actions[effect.action as usize] == Action::Capture
    }

    /// The same number for all packets of a flow, both directions; flows may share one by accident.
    #[must_use]
    pub fn flow_number(&self, packet: &Packet<'_>) -> u64 {
        let Ok(decoded) = decode(packet, self.plan.allow) else {
            return 0;
        };
        let (saddr, daddr) = decoded.addresses().unzip();
        let (sport, dport) = decoded.ports().unzip();
        let end = |address: Option<Address>, port: Option<u16>| {
            let mut hasher = DefaultHasher::new();
            (address, port).hash(&mut hasher);
            hasher.finish()
        };
        (end(saddr, sport) ^ end(daddr, dport)).wrapping_add(decoded.protocol().map_or(0, u64::from))
    }

    /// Counts a packet of so many bytes that got the outcome of a cause without having reached the engine.
    pub fn count_failure(&self, cause: Cause, length: u64, tallies: &Tallies) {
        tallies.add_kind(self.failure(cause, Detail::None).decision.kind, length);
        tallies.add_cause(cause, length);
    }

    /// The verdict of a failure cause. Counts nothing.
    #[must_use]
    pub fn failure(&self, cause: Cause, detail: Detail) -> Verdict {
        let kind = if self.plan.on_failure[cause as usize] {
            Kind::Accept
        } else {
            Kind::Drop
        };
        Verdict {
            decision: Decision { kind, argument: 0 },
            reason: Reason::Cause(cause),
            rule: None,
            detail,
            mark: None,
        }
    }
}

fn live_set(set: &plan::Set, plan: &Plan) -> LiveSet {
    let elements = match &set.elements {
        Elements::Addresses(index) => sets::Elements::Addresses(Arc::clone(&plan.addresses[*index])),
        Elements::Ranges(ranges) => sets::Elements::Ranges(ranges.clone()),
        Elements::Strings(strings) => {
            sets::Elements::Strings(strings.iter().map(|string| string.as_slice().into()).collect())
        }
    };
    LiveSet::new(elements, set.dynamic, set.timeout, set.size)
}

fn buckets(limit: &plan::Limit) -> Arc<Buckets> {
    Arc::new(Buckets::new(limit.rate, limit.seconds, limit.burst))
}
