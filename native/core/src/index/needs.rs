//! Rules that can match only where one of certain literals is in the payload. Once the payload has been searched, those
//! whose literals are not there need not be asked one by one.

use super::vectors::{CHUNK_BITS, Chunk};
use crate::fields::Field;
use crate::plan::{Condition, Plan, Test};

/// What the rules of a plan need.
#[derive(Debug, Default)]
pub struct Needs {
    /// The rules that need no literal; empty when none needs one.
    free: Box<[Chunk]>,
    /// By literal, the rules that need it, or another.
    rules: Vec<Vec<usize>>,
}

impl Needs {
    /// Of a plan; `needs` tells the literals of which a payload must hold one so that a test can be true of it.
    pub fn of(plan: &Plan, needs: impl Fn(&Test) -> Option<Vec<usize>>) -> Self {
        let mut this = Self::default();
        for (i, rule) in plan.rules.iter().enumerate() {
            // A rule that goes for others below it must itself tell that they are not to be looked at.
            if rule.end == i + 1
                && let Some(literals) = needed(&rule.condition, &needs)
            {
                this.insert(i, &literals, plan.rules.len());
            }
        }
        this
    }

    fn insert(&mut self, rule: usize, literals: &[usize], rules: usize) {
        if self.free.is_empty() {
            self.free = vec![Chunk::FULL; rules.div_ceil(CHUNK_BITS)].into();
        }
        self.free[rule / CHUNK_BITS].remove(rule % CHUNK_BITS);
        for literal in literals {
            if self.rules.len() <= *literal {
                self.rules.resize(literal + 1, Vec::new());
            }
            self.rules[*literal].push(rule);
        }
    }

    /// How many rules need a literal.
    pub fn count(&self) -> usize {
        self.free.iter().map(|chunk| CHUNK_BITS - chunk.count() as usize).sum()
    }

    /// Memory for the rules that a search leaves.
    pub fn memory(&self) -> Box<[Chunk]> {
        self.free.clone()
    }

    /// The rules that can still match when only those literals are in the payload.
    pub fn awake(&self, found: impl Iterator<Item = usize>, awake: &mut [Chunk]) {
        awake.copy_from_slice(&self.free);
        for rule in found.filter_map(|literal| self.rules.get(literal)).flatten() {
            awake[rule / CHUNK_BITS].insert(rule % CHUNK_BITS);
        }
    }
}

fn needed(condition: &Condition, needs: &impl Fn(&Test) -> Option<Vec<usize>>) -> Option<Vec<usize>> {
    match condition {
        Condition::All(inner) => inner.iter().find_map(|each| needed(each, needs)),
        Condition::Any(inner) => {
            let all: Vec<_> = inner.iter().map(|each| needed(each, needs)).collect::<Option<_>>()?;
            Some(all.concat())
        }
        Condition::Field(Field::Payload, 0, test) => needs(test),
        Condition::Field(..) | Condition::Not(_) | Condition::Bytes(_) | Condition::Python => None,
    }
}
