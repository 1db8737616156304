//! The nodes of the document: conditions, tests and actions as `[tag, argument...]`.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::{Action, Bytes, Condition, Test};
use crate::fields::{FIELDS, Field};
use crate::ranges::Ranges;
use crate::value::Base;

pub(super) fn ranges<'de, D: Deserializer<'de>>(from: D) -> Result<Ranges<u64>, D::Error> {
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
