//! Literals and patterns of all tests, each with a number.

use std::collections::HashMap;
use std::hash::Hash;

use super::{Condition, Plan, Test};
use crate::fields::Field;

impl Plan {
    pub(super) fn number_patterns(&mut self) {
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
