//! What reading a field gives: a value, the certainty that the packet has none, or the reason why nobody can know.
//! See `qfilter/engine/value.py`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::fields::Field;
use crate::malformed::Malformed;

/// A failure cause, in the order of CAUSES in `qfilter/model/verdict.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the table of design.md, section 4")]
pub enum Cause {
    NoListener,
    QueueFull,
    Malformed,
    Truncated,
    Fragment,
    Error,
    Overload,
    Deadline,
}

/// Every cause, by number.
pub const CAUSES: [Cause; 8] = [
    Cause::NoListener,
    Cause::QueueFull,
    Cause::Malformed,
    Cause::Truncated,
    Cause::Fragment,
    Cause::Error,
    Cause::Overload,
    Cause::Deadline,
];

/// Where an offset into the packet counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "nftables' names")]
pub enum Base {
    Network,
    Transport,
    Payload,
}

impl Base {
    /// Its name in a policy.
    #[must_use]
    pub fn name(self) -> &'static str {
        ["network", "transport", "payload"][self as usize]
    }
}

/// What could not be known; its text is the detail of the verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// A field, so many tunnels inside.
    Field(Field, u8),
    /// Bytes at an offset.
    Bytes(Base, i64),
    /// The headers that say so lie.
    Malformed(Malformed),
    /// A timestamp that is no time.
    Time(f64),
    /// What Python said: the text is with whoever asked it.
    Said,
}

impl fmt::Display for What {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field, depth) => {
                for _ in 0..*depth {
                    out.write_str("inner.")?;
                }
                out.write_str(field.name())
            }
            Self::Bytes(base, offset) => write!(out, "{} + {offset}", base.name()),
            Self::Malformed(code) => code.fmt(out),
            Self::Time(timestamp) => write!(out, "timestamp {} is no time", as_python(*timestamp)),
            Self::Said => Ok(()),
        }
    }
}

/// A number that is no time, so either huge or none, as Python writes it: `1e+300`, `nan`.
fn as_python(number: f64) -> String {
    if number.is_nan() {
        "nan".to_owned()
    } else {
        format!("{number:?}").replace('e', "e+")
    }
}

/// The packet may have the field, but its bytes are not here: a condition on it is unknown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unknown {
    /// FRAGMENT, TRUNCATED or MALFORMED; ERROR for a timestamp that is no time; any that Python gives.
    pub cause: Cause,
    /// What it is about.
    pub what: What,
}

/// An address of either family, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// IPv4.
    V4(u32),
    /// IPv6.
    V6(u128),
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(number) => Ipv4Addr::from(*number).fmt(out),
            Self::V6(number) => Ipv6Addr::from(*number).fmt(out),
        }
    }
}

/// The values of a field with several: option kinds and extension headers, at most as many as 40 bytes of options hold.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    length: u8,
    items: [u8; Self::MOST],
}

impl Numbers {
    /// How many fit: an IPv4 or TCP header has 40 bytes of options, an IPv6 packet at most 17 headers.
    pub const MOST: usize = 40;

    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            length: 0,
            items: [0; Self::MOST],
        }
    }

    /// One more; what does not fit cannot come, see [`Self::MOST`].
    pub fn push(&mut self, number: u8) {
        self.items[usize::from(self.length)] = number;
        self.length += 1;
    }

    /// In the order of the packet.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.items[..usize::from(self.length)]
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Numbers {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

/// What a field of one packet is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// The packet does not have it: a condition on it is false, also when negated.
    Absent,
    /// It cannot be known.
    Unknown(Unknown),
    /// NUMBER, FLAGS and MARK.
    Number(u64),
    /// ADDRESS.
    Address(Address),
    /// TEXT and BYTES.
    Bytes(&'a [u8]),
    /// A field with several values.
    Numbers(Numbers),
    /// Bytes that were cut.
    PartialBytes {
        /// Their beginning.
        known: &'a [u8],
        /// Of the whole, where the headers tell.
        length: Option<usize>,
        /// What any test that `known` does not settle has as its outcome.
        rest: Unknown,
    },
    /// The first of several values.
    PartialNumbers {
        /// Those that are here.
        known: Numbers,
        /// As above.
        rest: Unknown,
    },
}

impl Value<'_> {
    /// The value for whoever needs the whole of it: one of which only a part is here is unknown.
    #[must_use]
    pub fn exact(self) -> Self {
        match self {
            Self::PartialBytes { rest, .. } | Self::PartialNumbers { rest, .. } => Self::Unknown(rest),
            whole => whole,
        }
    }
}

/// What a condition is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Truth {
    /// It does not hold.
    False,
    /// It holds.
    True,
    /// It cannot be known.
    Unknown(Unknown),
    /// Only Python can tell, and has not been asked.
    Pending,
}

impl Truth {
    /// Not.
    #[must_use]
    pub fn negate(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::True => Self::False,
            other => other,
        }
    }

    /// And: false wins, then pending; of several unknowns the first is the cause.
    #[must_use]
    pub fn every(truths: impl IntoIterator<Item = Self>) -> Self {
        Self::combine(truths, Self::False)
    }

    /// Or: true wins, then pending; of several unknowns the first is the cause.
    #[must_use]
    pub fn some(truths: impl IntoIterator<Item = Self>) -> Self {
        Self::combine(truths, Self::True)
    }

    fn combine(truths: impl IntoIterator<Item = Self>, decisive: Self) -> Self {
        let mut open = decisive.negate();
        for truth in truths {
            match truth {
                Self::Pending => open = Self::Pending,
                Self::Unknown(_) if !matches!(open, Self::Unknown(_) | Self::Pending) => open = truth,
                _ if truth == decisive => return decisive,
                _ => {}
            }
        }
        open
    }
}

impl From<bool> for Truth {
    fn from(truth: bool) -> Self {
        if truth { Self::True } else { Self::False }
    }
}
