//! The plan document: what `qfilter/compiler/encode.py` writes, read and checked. Nothing behind this checks an index again.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use crate::fields::{FIELDS, Field};
use crate::malformed::{Allow, Malformed};
use crate::packet::Hook;
use crate::ranges::{Number, Ranges};
use crate::value::{Address, Base};

/// The only version that this build reads.
pub const VERSION: u32 = 1;

/// What is done with a packet; the numbers are those of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "design.md, section 3")]
pub enum Kind {
    Accept,
    Drop,
    Reject,
    Queue,
    Repeat,
}

/// A kind of verdict with its argument: a reject code (1 to 12), a queue's number, else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "(u8, u16)")]
pub struct Decision {
    /// What is done.
    pub kind: Kind,
    /// See above.
    pub argument: u16,
}

impl TryFrom<(u8, u16)> for Decision {
    type Error = String;

    fn try_from((kind, argument): (u8, u16)) -> Result<Self, String> {
        let kind = *[Kind::Accept, Kind::Drop, Kind::Reject, Kind::Queue, Kind::Repeat]
            .get(usize::from(kind))
            .ok_or_else(|| format!("decision {kind}: expected 0 to 4"))?;
        let right = match kind {
            Kind::Reject => (1..=12).contains(&argument),
            Kind::Queue => true,
            _ => argument == 0,
        };
        if right {
            Ok(Self { kind, argument })
        } else {
            Err(format!("argument {argument} of a {kind:?}"))
        }
    }
}

/// Addresses of both families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4.
    pub v4: Ranges<u32>,
    /// IPv6.
    pub v6: Ranges<u128>,
}

impl Addresses {
    /// Whether the ranges of an address's family hold it.
    #[must_use]
    pub fn contains(&self, address: Address) -> bool {
        match address {
            Address::V4(number) => self.v4.contains(number),
            Address::V6(number) => self.v6.contains(number),
        }
    }
}

/// What the file gives a set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Elements {
    /// By index into [`Plan::addresses`].
    Addresses(usize),
    /// Ports and numbers.
    #[serde(deserialize_with = "ranges")]
    Ranges(Ranges<u64>),
    /// As UTF-8, sorted.
    Strings(Vec<serde_bytes::ByteBuf>),
}

/// A named set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Its name in the policy.
    pub name: String,
    /// Whether actions and the control socket change it.
    pub dynamic: bool,
    /// Nanoseconds that an added element stays.
    pub timeout: Option<i64>,
    /// How many elements may be added.
    pub size: usize,
    /// What the file gives it.
    pub elements: Elements,
}

/// A condition of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Kleene and; empty is true.
    All(Box<[Condition]>),
    /// Kleene or; empty is false.
    Any(Box<[Condition]>),
    /// True logical negation, also of an absent field.
    Not(Box<Condition>),
    /// A field so many tunnels inside against a test.
    Field(Field, u8, Test),
    /// Bytes at an offset.
    Bytes(Box<Bytes>),
    /// scapy, a predicate, or a pattern that only RE2 reads: Python decides it.
    Python,
}

/// `len(value)` bytes at an offset, ANDed with `mask`, equal `value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Where the offset counts from.
    pub base: Base,
    /// In bytes, may be negative.
    pub offset: i64,
    /// As many as are compared.
    pub value: Box<[u8]>,
    /// As many.
    pub mask: Box<[u8]>,
    /// Whether they must differ.
    pub negated: bool,
}

/// What a value must be. See `qfilter/model/match.py`.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// A number inside one of the ranges.
    Ranges(Ranges<u64>),
    /// An address inside one of the ranges, by index into [`Plan::addresses`].
    Addresses(usize),
    /// `number & mask == value`.
    Masked {
        /// What is left.
        value: u64,
        /// Of these bits.
        mask: u64,
    },
    /// `number & bits != 0`.
    AnyBit(u64),
    /// The same bytes.
    Equals(Box<[u8]>),
    /// Somewhere inside; of the packet's own payload also by index into [`Plan::literals`].
    Contains(Box<[u8]>, Option<usize>),
    /// At the beginning.
    StartsWith(Box<[u8]>),
    /// At the end.
    EndsWith(Box<[u8]>),
    /// A pattern found somewhere, in Rust's syntax, by index into [`Plan::regexes`].
    Regex(Box<str>, usize),
    /// The number of bytes.
    Length(Ranges<u64>),
    /// An element of a set, by index into [`Plan::sets`].
    Set(usize),
    /// There, and not like that.
    Not(Box<Test>),
    /// One of them.
    Any(Box<[Test]>),
    /// All of them.
    All(Box<[Test]>),
}

/// What a rule does when it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An event.
    Log,
    /// The packet goes to a file.
    Capture,
    /// A named counter, by index into [`Plan::counters`].
    Count(usize),
    /// `mark = (mark & !mask) | value`.
    Mark {
        /// The new bits.
        value: u32,
        /// Those that change.
        mask: u32,
    },
    /// A field's value goes into a set.
    Add {
        /// By index into [`Plan::sets`].
        set: usize,
        /// Whose value.
        field: Field,
        /// Nanoseconds; None takes the set's own.
        timeout: Option<i64>,
    },
    /// A field's value goes out of a set.
    Delete {
        /// By index into [`Plan::sets`].
        set: usize,
        /// Whose value.
        field: Field,
    },
}

/// A token bucket, see `qfilter/model/rule.py`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Tokens that come back in `seconds`.
    pub rate: u64,
    /// See `rate`.
    pub seconds: u64,
    /// Tokens that the bucket holds.
    pub burst: u64,
    /// A bucket for each combination of their values.
    pub per: Vec<Field>,
    /// Whether it matches once no tokens are left.
    pub over: bool,
}

/// One rule; the rules inside it follow, up to `end`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its id in the policy.
    pub id: String,
    /// Bits by hook number; 0 is every hook.
    pub hooks: u8,
    /// Index of the first rule that is neither this one nor inside it.
    pub end: usize,
    /// Its condition.
    #[serde(rename = "match")]
    pub condition: Condition,
    /// What must pass after the condition.
    pub limit: Option<Limit>,
    /// In file order.
    pub actions: Vec<Action>,
    /// None goes on.
    pub verdict: Option<Decision>,
    /// Whether the verdict holds for the rest of the flow.
    pub flow: bool,
    /// Where it is decided.
    pub place: Place,
}

impl Rule {
    /// Whether it is looked at on a hook.
    #[must_use]
    pub fn applies(&self, hook: Hook) -> bool {
        self.hooks == 0 || self.hooks >> (hook as u8) & 1 == 1
    }
}

/// Where a rule is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Place {
    Native,
    Python,
}

/// A policy as data.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Codes that are let through.
    pub allow: Allow,
    /// By hook number; None where the hook is not in force.
    pub defaults: [Option<Decision>; 5],
    /// Whether each cause accepts.
    pub on_failure: [bool; 8],
    /// Nanoseconds in which Python must have answered.
    pub deadline: Option<i64>,
    /// The bits that hand rejects back; 0 when the policy rejects nothing.
    pub mark_mask: u32,
    /// Those that sets and tests name, each once.
    pub addresses: Vec<Arc<Addresses>>,
    /// In file order.
    pub sets: Vec<Set>,
    /// In file order.
    pub counters: Vec<String>,
    /// In preorder.
    pub rules: Vec<Rule>,
    /// What tests look for in the payload, each once.
    pub literals: Vec<Box<[u8]>>,
    /// The patterns of all tests, each once.
    pub regexes: Vec<Box<str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    fields: Vec<String>,
    allow: Vec<String>,
    defaults: [Option<Decision>; 5],
    on_failure: [bool; 8],
    deadline: Option<i64>,
    mark_mask: u32,
    addresses: Vec<PackedAddresses>,
    sets: Vec<Set>,
    counters: Vec<String>,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackedAddresses {
    v4: serde_bytes::ByteBuf,
    v6: serde_bytes::ByteBuf,
}

impl Plan {
    /// Reads a document.
    ///
    /// # Errors
    /// Says what is wrong with it: another version, an index that leads nowhere, ranges out of order.
    pub fn from_bytes(document: &[u8]) -> Result<Self, String> {
        let document: Document = rmp_serde::from_slice(document).map_err(|error| format!("plan: {error}"))?;
        if document.version != VERSION {
            return Err(format!("plan version {}: expected {VERSION}", document.version));
        }
        if !document.fields.iter().eq(FIELDS.iter().map(|(_, name)| name)) {
            return Err(
                "plan: its field table is another one: compiler and native engine are of different builds".into(),
            );
        }
        let mut allow = Allow::default();
        for name in &document.allow {
            allow =
                allow.with(Malformed::from_name(name).ok_or_else(|| format!("plan: allow {name:?}: no such code"))?);
        }
        let addresses = document
            .addresses
            .iter()
            .map(|packed| unpack(packed).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let mut plan = Self {
            allow,
            defaults: document.defaults,
            on_failure: document.on_failure,
            deadline: document.deadline,
            mark_mask: document.mark_mask,
            addresses,
            sets: document.sets,
            counters: document.counters,
            rules: document.rules,
            literals: Vec::new(),
            regexes: Vec::new(),
        };
        plan.check()?;
        plan.number_patterns();
        Ok(plan)
    }

    fn number_patterns(&mut self) {
        let (mut literals, mut regexes) = (Interner::default(), Interner::default());
        for rule in &mut self.rules {
            each_test(&mut rule.condition, &mut |field, depth, test| match test {
                Test::Contains(literal, index) if field == Field::Payload && depth == 0 => {
                    *index = Some(literals.index(literal));
                }
                Test::Regex(pattern, index) => *index = regexes.index(pattern),
                _ => {}
            });
        }
        self.literals = literals.all;
        self.regexes = regexes.all;
    }

    fn check(&self) -> Result<(), String> {
        for set in &self.sets {
            if let Elements::Addresses(index) = set.elements {
                within(index, self.addresses.len(), "addresses")?;
            }
        }
        let mut open = vec![self.rules.len()];
        for (i, rule) in self.rules.iter().enumerate() {
            while open.last() == Some(&i) {
                open.pop();
            }
            if rule.end <= i || rule.end > open.last().copied().unwrap_or(self.rules.len()) {
                return Err(format!(
                    "plan: rule {:?} ends at {}: expected behind {i}, inside its parent",
                    rule.id, rule.end
                ));
            }
            open.push(rule.end);
            self.check_rule(rule)
                .map_err(|error| format!("plan: rule {:?}: {error}", rule.id))?;
        }
        Ok(())
    }

    fn check_rule(&self, rule: &Rule) -> Result<(), String> {
        for action in &rule.actions {
            match action {
                Action::Count(index) => within(*index, self.counters.len(), "counters")?,
                Action::Add { set, .. } | Action::Delete { set, .. } => within(*set, self.sets.len(), "sets")?,
                Action::Log | Action::Capture | Action::Mark { .. } => {}
            }
        }
        self.check_condition(&rule.condition)
    }

    fn check_condition(&self, condition: &Condition) -> Result<(), String> {
        match condition {
            Condition::All(inner) | Condition::Any(inner) => {
                inner.iter().try_for_each(|each| self.check_condition(each))
            }
            Condition::Not(inner) => self.check_condition(inner),
            Condition::Field(_, depth, _) if *depth > 4 => Err(format!("depth {depth}: expected at most 4")),
            Condition::Field(_, _, test) => self.check_test(test),
            Condition::Bytes(bytes) if bytes.value.len() != bytes.mask.len() => {
                Err("mask and value differ in length".into())
            }
            Condition::Bytes(_) | Condition::Python => Ok(()),
        }
    }

    fn check_test(&self, test: &Test) -> Result<(), String> {
        match test {
            Test::Addresses(index) => within(*index, self.addresses.len(), "addresses"),
            Test::Set(index) => within(*index, self.sets.len(), "sets"),
            Test::Not(inner) => self.check_test(inner),
            Test::Any(inner) | Test::All(inner) => inner.iter().try_for_each(|each| self.check_test(each)),
            _ => Ok(()),
        }
    }
}

/// Numbers things, equal ones alike.
struct Interner<T> {
    all: Vec<T>,
    known: HashMap<T, usize>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            known: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    fn index(&mut self, thing: &T) -> usize {
        *self.known.entry(thing.clone()).or_insert_with(|| {
            self.all.push(thing.clone());
            self.all.len() - 1
        })
    }
}

/// Calls `visit` with every test that is made of no others, and with the field and the depth that it looks at.
fn each_test(condition: &mut Condition, visit: &mut impl FnMut(Field, u8, &mut Test)) {
    match condition {
        Condition::All(inner) | Condition::Any(inner) => inner.iter_mut().for_each(|each| each_test(each, visit)),
        Condition::Not(inner) => each_test(inner, visit),
        Condition::Field(field, depth, test) => each_leaf(test, &mut |leaf| visit(*field, *depth, leaf)),
        Condition::Bytes(_) | Condition::Python => {}
    }
}

fn each_leaf(test: &mut Test, visit: &mut impl FnMut(&mut Test)) {
    match test {
        Test::Not(inner) => each_leaf(inner, visit),
        Test::Any(inner) | Test::All(inner) => inner.iter_mut().for_each(|each| each_leaf(each, visit)),
        leaf => visit(leaf),
    }
}

fn within(index: usize, length: usize, what: &str) -> Result<(), String> {
    if index < length {
        Ok(())
    } else {
        Err(format!("{what} {index}: there are {length}"))
    }
}

fn unpack(packed: &PackedAddresses) -> Result<Addresses, String> {
    Ok(Addresses {
        v4: unpacked(&packed.v4, |bytes: [u8; 4]| u32::from_be_bytes(bytes))?,
        v6: unpacked(&packed.v6, |bytes: [u8; 16]| u128::from_be_bytes(bytes))?,
    })
}

fn unpacked<K: Number, const SIZE: usize>(
    packed: &[u8],
    number: impl Fn([u8; SIZE]) -> K,
) -> Result<Ranges<K>, String> {
    let (numbers, rest) = packed.as_chunks::<SIZE>();
    if !rest.is_empty() || numbers.len() % 2 != 0 {
        return Err(format!(
            "plan: addresses of {} bytes: expected pairs of {SIZE}",
            packed.len()
        ));
    }
    Ranges::from_pairs(
        numbers
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[low, high]| (number(*low), number(*high))),
    )
}

fn ranges<'de, D: Deserializer<'de>>(from: D) -> Result<Ranges<u64>, D::Error> {
    Ranges::from_pairs(Vec::<(u64, u64)>::deserialize(from)?).map_err(de::Error::custom)
}

/// Ranges as the document has them.
struct Pairs(Ranges<u64>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        ranges(from).map(Self)
    }
}

/// Bytes as the document has them.
struct Raw(Box<[u8]>);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        serde_bytes::ByteBuf::deserialize(from).map(|bytes| Self(bytes.into_vec().into()))
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let index = usize::deserialize(from)?;
        Self::from_index(index).ok_or_else(|| de::Error::custom(format!("field {index}: there are {}", FIELDS.len())))
    }
}

/// `[tag, argument...]`: each kind of node says what follows its tag.
trait Node: Sized {
    const EXPECTED: &'static str;
    fn read<'de, A: SeqAccess<'de>>(tag: &str, rest: &mut Rest<A>) -> Result<Option<Self>, A::Error>;
}

struct Rest<A>(A);

impl<'de, A: SeqAccess<'de>> Rest<A> {
    fn take<T: Deserialize<'de>>(&mut self) -> Result<T, A::Error> {
        self.0
            .next_element()?
            .ok_or_else(|| de::Error::custom("an argument is missing"))
    }
}

struct NodeVisitor<N>(std::marker::PhantomData<N>);

impl<'de, N: Node> Visitor<'de> for NodeVisitor<N> {
    type Value = N;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(N::EXPECTED)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<N, A::Error> {
        let mut rest = Rest(sequence);
        let tag: String = rest.take()?;
        let node = N::read(&tag, &mut rest)?;
        let node = node.ok_or_else(|| de::Error::custom(format!("{tag:?}: expected {}", N::EXPECTED)))?;
        match rest.0.next_element::<de::IgnoredAny>()? {
            None => Ok(node),
            Some(_) => Err(de::Error::custom(format!("{tag:?} has too many arguments"))),
        }
    }
}

macro_rules! node {
    ($kind:ty) => {
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_seq(NodeVisitor(std::marker::PhantomData))
            }
        }
    };
}
node!(Condition);
node!(Test);
node!(Action);

impl Node for Condition {
    const EXPECTED: &'static str = "a condition";

    fn read<'de, A: SeqAccess<'de>>(tag: &str, rest: &mut Rest<A>) -> Result<Option<Self>, A::Error> {
        Ok(Some(match tag {
            "all" => Self::All(rest.take::<Vec<_>>()?.into()),
            "any" => Self::Any(rest.take::<Vec<_>>()?.into()),
            "not" => Self::Not(Box::new(rest.take()?)),
            "field" => Self::Field(rest.take()?, rest.take()?, rest.take()?),
            "bytes" => Self::Bytes(Box::new(Bytes {
                base: match rest.take::<u8>()? {
                    0 => Base::Network,
                    1 => Base::Transport,
                    2 => Base::Payload,
                    other => return Err(de::Error::custom(format!("base {other}: expected 0 to 2"))),
                },
                offset: rest.take()?,
                value: rest.take::<Raw>()?.0,
                mask: rest.take::<Raw>()?.0,
                negated: rest.take()?,
            })),
            "python" => Self::Python,
            _ => return Ok(None),
        }))
    }
}

impl Node for Test {
    const EXPECTED: &'static str = "a test";

    fn read<'de, A: SeqAccess<'de>>(tag: &str, rest: &mut Rest<A>) -> Result<Option<Self>, A::Error> {
        Ok(Some(match tag {
            "ranges" => Self::Ranges(rest.take::<Pairs>()?.0),
            "addresses" => Self::Addresses(rest.take()?),
            "masked" => Self::Masked {
                value: rest.take()?,
                mask: rest.take()?,
            },
            "any_bit" => Self::AnyBit(rest.take()?),
            "equals" => Self::Equals(rest.take::<Raw>()?.0),
            "contains" => Self::Contains(rest.take::<Raw>()?.0, None),
            "starts_with" => Self::StartsWith(rest.take::<Raw>()?.0),
            "ends_with" => Self::EndsWith(rest.take::<Raw>()?.0),
            "regex" => Self::Regex(rest.take::<String>()?.into(), usize::MAX),
            "length" => Self::Length(rest.take::<Pairs>()?.0),
            "set" => Self::Set(rest.take()?),
            "not" => Self::Not(Box::new(rest.take()?)),
            "any" => Self::Any(rest.take::<Vec<_>>()?.into()),
            "all" => Self::All(rest.take::<Vec<_>>()?.into()),
            _ => return Ok(None),
        }))
    }
}

impl Node for Action {
    const EXPECTED: &'static str = "an action";

    fn read<'de, A: SeqAccess<'de>>(tag: &str, rest: &mut Rest<A>) -> Result<Option<Self>, A::Error> {
        Ok(Some(match tag {
            "log" => Self::Log,
            "capture" => Self::Capture,
            "count" => Self::Count(rest.take()?),
            "mark" => Self::Mark {
                value: rest.take()?,
                mask: rest.take()?,
            },
            "add" => Self::Add {
                set: rest.take()?,
                field: rest.take()?,
                timeout: rest.take()?,
            },
            "delete" => Self::Delete {
                set: rest.take()?,
                field: rest.take()?,
            },
            _ => return Ok(None),
        }))
    }
}
