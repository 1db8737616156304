//! The values that a test lets through, as sets that can be complemented and intersected. What a class of values means
//! to a rule follows from this algebra alone.

use std::collections::BTreeSet;

use crate::fields::Field;
use crate::plan::{Addresses, Elements, Plan, Test};
use crate::value::{Address, Value};

/// Larger address lists are one question, whether they hold the address: a class for each of their ranges costs more than
/// it saves.
pub const MOST_RANGES: usize = 1 << 18;

/// What the values of an indexed field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number up to 255, so that bit tests can be tried on each.
    Byte,
    /// Any number.
    Number,
    /// An address.
    Address,
    /// Text.
    Text,
}

impl Kind {
    /// None for fields that cannot be indexed: several values, payload, what depends on the time, what is dear to read.
    pub fn of(field: Field) -> Option<Self> {
        match field {
            Field::Hour
            | Field::Weekday
            | Field::Checksum
            | Field::IpOptions
            | Field::Ip6Exthdrs
            | Field::Ip6Routing
            | Field::TcpOptions
            | Field::Payload => None,
            Field::Saddr | Field::Daddr => Some(Self::Address),
            Field::Iifname | Field::Oifname | Field::Physin | Field::Physout | Field::Hwaddr => Some(Self::Text),
            Field::Hook
            | Field::Family
            | Field::Protocol
            | Field::Ttl
            | Field::Dscp
            | Field::Ecn
            | Field::Fragment
            | Field::IpDf
            | Field::TcpFlags
            | Field::CtState
            | Field::IcmpType
            | Field::IcmpCode
            | Field::Icmpv6Type
            | Field::Icmpv6Code => Some(Self::Byte),
            Field::Mark
            | Field::Length
            | Field::Uid
            | Field::Gid
            | Field::CtMark
            | Field::IpId
            | Field::Ip6Flowlabel
            | Field::Sport
            | Field::Dport
            | Field::TcpSeq
            | Field::TcpWindow
            | Field::TcpMss
            | Field::UdpLength
            | Field::AhSpi
            | Field::EspSpi
            | Field::GreProtocol
            | Field::GreKey => Some(Self::Number),
        }
    }
}

/// A position on a line of values.
pub trait Key: Copy + Ord + std::hash::Hash {
    /// The lowest.
    const FIRST: Self;
    /// The highest.
    const LAST: Self;
    /// The one behind, where there is one.
    fn after(self) -> Option<Self>;
    /// The one before, where there is one.
    fn before(self) -> Option<Self>;
    /// How many bits the distance from a lower position has.
    fn bits_from(self, lower: Self) -> u32;
    /// The distance from a lower position, without its last `shift` bits; it must fit.
    fn steps_from(self, lower: Self, shift: u32) -> usize;
}

macro_rules! key {
    ($($kind:ty),*) => {$(
        impl Key for $kind {
            const FIRST: Self = Self::MIN;
            const LAST: Self = Self::MAX;
            fn after(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn before(self) -> Option<Self> {
                self.checked_sub(1)
            }
            fn bits_from(self, lower: Self) -> u32 {
                Self::BITS - (self - lower).leading_zeros()
            }
            fn steps_from(self, lower: Self, shift: u32) -> usize {
                ((self - lower) >> shift) as usize
            }
        }
    )*};
}
key!(u32, u64, u128);

/// Inclusive spans on a line: sorted, with gaps between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spans<K>(Vec<(K, K)>);

impl<K: Key> Spans<K> {
    fn all() -> Self {
        Self(vec![(K::FIRST, K::LAST)])
    }

    /// Of sorted spans that do not overlap; those that touch become one.
    fn new(sorted: impl IntoIterator<Item = (K, K)>) -> Self {
        let mut spans: Vec<(K, K)> = Vec::new();
        for (low, high) in sorted {
            match spans.last_mut() {
                Some((_, last)) if last.after() == Some(low) => *last = high,
                _ => spans.push((low, high)),
            }
        }
        Self(spans)
    }

    fn not(&self) -> Self {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut low = Some(K::FIRST);
        for (first, last) in &self.0 {
            if let (Some(low), Some(high)) = (low, first.before())
                && low <= high
            {
                gaps.push((low, high));
            }
            low = last.after();
        }
        gaps.extend(low.map(|low| (low, K::LAST)));
        Self(gaps)
    }

    fn and(&self, other: &Self) -> Self {
        let (few, many) = if self.0.len() <= other.0.len() {
            (self, other)
        } else {
            (other, self)
        };
        let mut both = Vec::with_capacity(few.0.len());
        for (low, high) in &few.0 {
            let first = many.0.partition_point(|(_, last)| last < low);
            let meeting = many.0[first..].iter().take_while(|(first, _)| first <= high);
            both.extend(meeting.map(|(first, last)| (*low.max(first), *high.min(last))));
        }
        Self(both)
    }

    /// First and last position of each.
    pub fn iter(&self) -> impl Iterator<Item = (K, K)> {
        self.0.iter().copied()
    }

    fn pick(&self, seed: usize) -> Option<K> {
        (!self.0.is_empty()).then(|| self.0[seed % self.0.len()].0)
    }
}

/// A set of the values that a field can have when a packet has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Region {
    /// Of numbers.
    Numbers(Spans<u64>),
    /// Of addresses of both families.
    Addresses(Spans<u32>, Spans<u128>),
    /// Of text: those listed, or all but those.
    Texts {
        /// The exceptional ones.
        listed: BTreeSet<Box<[u8]>>,
        /// Whether they are left out.
        all_but: bool,
    },
}

impl Region {
    /// Every value.
    pub fn all(kind: Kind) -> Self {
        match kind {
            Kind::Byte | Kind::Number => Self::Numbers(Spans::all()),
            Kind::Address => Self::Addresses(Spans::all(), Spans::all()),
            Kind::Text => Self::Texts {
                listed: BTreeSet::new(),
                all_but: true,
            },
        }
    }

    /// The numbers from 0 to 255 of which something is true.
    pub fn bytes(holds: impl Fn(u64) -> bool) -> Self {
        Self::Numbers(Spans::new(
            (0..256).filter(|byte| holds(*byte)).map(|byte| (byte, byte)),
        ))
    }

    /// What a test lets through; None where that cannot be said once and for all, or not in this algebra.
    pub fn of(test: &Test, kind: Kind, plan: &Plan) -> Option<Self> {
        match (test, kind) {
            (Test::Not(inner), _) => Some(Self::of(inner, kind, plan)?.not()),
            (Test::All(inner), _) => inner.iter().try_fold(Self::all(kind), |region, each| {
                Some(region.and(&Self::of(each, kind, plan)?))
            }),
            (Test::Any(inner), _) => inner
                .iter()
                .try_fold(Self::all(kind), |none, each| {
                    Some(none.and(&Self::of(each, kind, plan)?.not()))
                })
                .map(|none| none.not()),
            (Test::Ranges(ranges), Kind::Byte | Kind::Number) => Some(Self::Numbers(Spans::new(ranges.iter()))),
            (Test::Masked { value, mask }, Kind::Byte) => Some(Self::bytes(|byte| byte & mask == *value)),
            (Test::AnyBit(bits), Kind::Byte) => Some(Self::bytes(|byte| byte & bits != 0)),
            (Test::Addresses(index), Kind::Address) => Self::of_addresses(*index, plan),
            (Test::Equals(text), Kind::Text) => Some(Self::texts([text.clone()])),
            (Test::Set(index), _) if !plan.sets[*index].dynamic => match (&plan.sets[*index].elements, kind) {
                (Elements::Addresses(index), Kind::Address) => Self::of_addresses(*index, plan),
                (Elements::Ranges(ranges), Kind::Byte | Kind::Number) => Some(Self::Numbers(Spans::new(ranges.iter()))),
                (Elements::Strings(strings), Kind::Text) => {
                    Some(Self::texts(strings.iter().map(|string| string.as_slice().into())))
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn of_addresses(index: usize, plan: &Plan) -> Option<Self> {
        let addresses = &plan.addresses[index];
        (!is_long(addresses)).then(|| Self::Addresses(Spans::new(addresses.v4.iter()), Spans::new(addresses.v6.iter())))
    }

    /// The long list that a test asks, and which of its answers, 0 for no and 1 for yes, the test lets through; None for
    /// other tests.
    pub fn among(test: &Test, plan: &Plan) -> Option<(usize, Self)> {
        let list = match test {
            Test::Not(inner) => return Self::among(inner, plan).map(|(list, said)| (list, said.not())),
            Test::Addresses(list) => *list,
            Test::Set(set) if !plan.sets[*set].dynamic => match plan.sets[*set].elements {
                Elements::Addresses(list) => list,
                _ => return None,
            },
            _ => return None,
        };
        is_long(&plan.addresses[list]).then(|| (list, Self::Numbers(Spans::new([(1, u64::MAX)]))))
    }

    fn texts(texts: impl IntoIterator<Item = Box<[u8]>>) -> Self {
        Self::Texts {
            listed: texts.into_iter().collect(),
            all_but: false,
        }
    }

    /// All other values.
    #[must_use]
    pub fn not(&self) -> Self {
        match self {
            Self::Numbers(spans) => Self::Numbers(spans.not()),
            Self::Addresses(v4, v6) => Self::Addresses(v4.not(), v6.not()),
            Self::Texts { listed, all_but } => Self::Texts {
                listed: listed.clone(),
                all_but: !all_but,
            },
        }
    }

    /// The values of both; both are of one kind.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Numbers(one), Self::Numbers(other)) => Self::Numbers(one.and(other)),
            (Self::Addresses(v4, v6), Self::Addresses(other4, other6)) => {
                Self::Addresses(v4.and(other4), v6.and(other6))
            }
            (
                Self::Texts { listed, all_but },
                Self::Texts {
                    listed: other,
                    all_but: other_but,
                },
            ) => both_texts((listed, *all_but), (other, *other_but)),
            _ => unreachable!("a field has values of one kind"),
        }
    }

    /// How many spans or texts it is made of.
    pub fn size(&self) -> usize {
        match self {
            Self::Numbers(spans) => spans.0.len(),
            Self::Addresses(v4, v6) => v4.0.len() + v6.0.len(),
            Self::Texts { listed, .. } => listed.len(),
        }
    }

    /// One of its values, another for another seed; None when it is empty.
    pub fn pick(&self, seed: usize) -> Option<Value<'_>> {
        match self {
            Self::Numbers(spans) => spans.pick(seed).map(Value::Number),
            Self::Addresses(v4, v6) => {
                let v4 = || v4.pick(seed).map(Address::V4);
                let v6 = || v6.pick(seed).map(Address::V6);
                let address = if seed.is_multiple_of(2) {
                    v4().or_else(v6)
                } else {
                    v6().or_else(v4)
                };
                address.map(Value::Address)
            }
            Self::Texts { listed, all_but: false } => listed
                .iter()
                .nth(seed % listed.len().max(1))
                .map(|text| Value::Bytes(text)),
            Self::Texts { listed, all_but: true } => {
                // No name of an interface or a link-layer address is this long.
                const OTHER: &[u8] = &[0; 256];
                (!listed.contains(OTHER)).then_some(Value::Bytes(OTHER))
            }
        }
    }
}

fn is_long(list: &Addresses) -> bool {
    list.v4.len() + list.v6.len() > MOST_RANGES
}

type Texts<'t> = (&'t BTreeSet<Box<[u8]>>, bool);

fn both_texts((listed, all_but): Texts<'_>, (other, other_but): Texts<'_>) -> Region {
    let listed = match (all_but, other_but) {
        (true, true) => listed.union(other).cloned().collect(),
        (false, but) => listed
            .iter()
            .filter(|text| other.contains(*text) != but)
            .cloned()
            .collect(),
        (true, false) => return both_texts((other, false), (listed, true)),
    };
    Region::Texts {
        listed,
        all_but: all_but && other_but,
    }
}
