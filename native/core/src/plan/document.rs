//! The document as a whole: read, and every index in it checked.

use std::sync::Arc;

use serde::Deserialize;

use super::{Action, Addresses, Condition, Decision, Elements, Place, Plan, Rule, Set, Test, VERSION};
use crate::fields::FIELDS;
use crate::malformed::{Allow, Malformed};
use crate::ranges::{Number, Ranges};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    version: u32,
    fields: Vec<String>,
    allow: Vec<String>,
    defaults: [Option<Decision>; 5],
    on_failure: [bool; 8],
    mark_mask: u32,
    #[serde(borrow)]
    addresses: Vec<PackedAddresses<'a>>,
    sets: Vec<Set>,
    counters: Vec<String>,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackedAddresses<'a> {
    #[serde(borrow)]
    v4: &'a serde_bytes::Bytes,
    #[serde(borrow)]
    v6: &'a serde_bytes::Bytes,
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
        if (rule.place == Place::Python) != asks_python(&rule.condition) {
            return Err(format!("place {:?}: its condition says otherwise", rule.place));
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

fn asks_python(condition: &Condition) -> bool {
    match condition {
        Condition::All(inner) | Condition::Any(inner) => inner.iter().any(asks_python),
        Condition::Not(inner) => asks_python(inner),
        Condition::Python => true,
        Condition::Field(..) | Condition::Bytes(_) => false,
    }
}

fn within(index: usize, length: usize, what: &str) -> Result<(), String> {
    if index < length {
        Ok(())
    } else {
        Err(format!("{what} {index}: there are {length}"))
    }
}

fn unpack(packed: &PackedAddresses<'_>) -> Result<Addresses, String> {
    Ok(Addresses {
        v4: unpacked(packed.v4, |bytes: [u8; 4]| u32::from_be_bytes(bytes))?,
        v6: unpacked(packed.v6, |bytes: [u8; 16]| u128::from_be_bytes(bytes))?,
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
