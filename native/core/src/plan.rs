//! The plan document: what `qfilter/compiler/encode.py` writes, read and checked. Nothing behind this checks an index again.

mod document;
mod nodes;
mod patterns;

use std::sync::Arc;

use serde::Deserialize;

use crate::fields::Field;
use crate::malformed::Allow;
use crate::packet::Hook;
use crate::ranges::Ranges;
use crate::value::{Address, Base};

/// The only version that this build reads.
pub const VERSION: u32 = 2;

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
    #[serde(deserialize_with = "nodes::ranges")]
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
    /// What it holds, in the policy's words: only a set of the same type goes on with what was added to it.
    #[serde(rename = "type")]
    pub kind: String,
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
    /// Where it is decided: with Python exactly when its condition asks Python.
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

/// A policy as data; without anything it drops all.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Codes that are let through.
    pub allow: Allow,
    /// By hook number; None where the hook is not in force.
    pub defaults: [Option<Decision>; 5],
    /// Whether each cause accepts.
    pub on_failure: [bool; 8],
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
