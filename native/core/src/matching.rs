//! One value against one test, in Kleene's logic. See `qfilter/engine/matching.py`.

use memchr::memmem;

use crate::plan::Test;
use crate::ranges::Ranges;
use crate::state::sets::ElementRef;
use crate::value::{Address, Numbers, Truth, Unknown, Value};

/// What tests refer to by index. The engine has it.
pub trait Context {
    /// Whether the addresses of the plan hold one.
    fn addresses(&self, index: usize, address: Address) -> bool;
    /// Whether a set holds an element now.
    fn set(&self, index: usize, element: ElementRef<'_>) -> bool;
    /// Whether a pattern is found in a text.
    fn regex(&self, index: usize, text: &[u8]) -> bool;
    /// Whether a literal of the plan is in the packet's own payload, as far as that is here.
    fn literal(&self, index: usize) -> bool;
}

/// Whether a value that is there matches: not `Absent`, not `Unknown`. A field with several values matches when any of
/// them does; a value of another kind than the test's does not match.
pub fn matches(test: &Test, value: &Value<'_>, context: &impl Context) -> Truth {
    match test {
        Test::Not(inner) => matches(inner, value, context).negate(),
        Test::Any(inner) => Truth::some(inner.iter().map(|each| matches(each, value, context))),
        Test::All(inner) => Truth::every(inner.iter().map(|each| matches(each, value, context))),
        leaf => match value {
            Value::Number(number) => number_matches(leaf, *number, context).into(),
            Value::Address(address) => address_matches(leaf, *address, context).into(),
            Value::Bytes(text) => text_matches(leaf, text, context).into(),
            Value::Numbers(numbers) => any_matches(leaf, numbers, context).into(),
            Value::PartialNumbers { known, rest } => known_or(any_matches(leaf, known, context), *rest),
            Value::PartialBytes { known, length, rest } => beginning_matches(leaf, known, *length, *rest, context),
            Value::Absent => Truth::False,
            Value::Unknown(unknown) => Truth::Unknown(*unknown),
        },
    }
}

fn any_matches(test: &Test, numbers: &Numbers, context: &impl Context) -> bool {
    numbers
        .as_slice()
        .iter()
        .any(|number| number_matches(test, u64::from(*number), context))
}

/// A number against a test that is made of no others.
pub fn number_matches(test: &Test, number: u64, context: &impl Context) -> bool {
    match test {
        Test::Ranges(ranges) => ranges.contains(number),
        Test::Masked { value, mask } => number & mask == *value,
        Test::AnyBit(bits) => number & bits != 0,
        Test::Set(index) => context.set(*index, ElementRef::Number(number)),
        _ => false,
    }
}

/// An address against a test that is made of no others.
pub fn address_matches(test: &Test, address: Address, context: &impl Context) -> bool {
    match test {
        Test::Addresses(index) => context.addresses(*index, address),
        Test::Set(index) => context.set(*index, ElementRef::Address(address)),
        _ => false,
    }
}

/// A whole text against a test that is made of no others.
pub fn text_matches(test: &Test, text: &[u8], context: &impl Context) -> bool {
    match test {
        Test::Equals(pattern) => text == &**pattern,
        Test::Contains(_, Some(index)) => context.literal(*index),
        Test::Contains(pattern, None) => memmem::find(text, pattern).is_some(),
        Test::StartsWith(pattern) => text.starts_with(pattern),
        Test::EndsWith(pattern) => text.ends_with(pattern),
        Test::Regex(_, index) => context.regex(*index, text),
        Test::Length(ranges) => holds_length(ranges, text.len()),
        Test::Set(index) => context.set(*index, ElementRef::Bytes(text)),
        _ => false,
    }
}

/// A test that the beginning of a text can settle: something found in it, a wrong beginning, a length that does not fit.
fn beginning_matches(test: &Test, known: &[u8], length: Option<usize>, rest: Unknown, context: &impl Context) -> Truth {
    let longer_than = |pattern: &[u8]| length.is_some_and(|length| length < pattern.len());
    match test {
        Test::Length(ranges) => length.map_or(Truth::Unknown(rest), |length| holds_length(ranges, length).into()),
        Test::Equals(pattern) if length.is_some_and(|length| length != pattern.len()) => Truth::False,
        Test::Contains(pattern, _) | Test::StartsWith(pattern) | Test::EndsWith(pattern) if longer_than(pattern) => {
            Truth::False
        }
        Test::Contains(..) => known_or(text_matches(test, known, context), rest),
        Test::StartsWith(pattern) if known.len() >= pattern.len() => known.starts_with(pattern).into(),
        Test::StartsWith(pattern) | Test::Equals(pattern) if !pattern.starts_with(known) => Truth::False,
        _ => Truth::Unknown(rest),
    }
}

fn known_or(known: bool, rest: Unknown) -> Truth {
    if known { Truth::True } else { Truth::Unknown(rest) }
}

fn holds_length(ranges: &Ranges<u64>, length: usize) -> bool {
    ranges.contains(length as u64)
}
