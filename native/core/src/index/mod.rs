//! Which rules a packet can match at all, whatever their number.
//!
//! Each *dimension* is a field that rules test at the top level of their conditions, or whether a long list holds its
//! value. The values of the field fall into classes between which no rule distinguishes; each class has a vector, the rules
//! that it does not rule out. A packet's *candidates* are the rules in all of its vectors. A rule that is no candidate is
//! certainly false, by its own condition or by an ancestor's; of a candidate all of whose dimensions are known only its
//! *residual* is left to ask.

mod choose;
mod constraints;
mod dimension;
mod memo;
mod needs;
mod region;
mod vectors;

#[cfg(test)]
mod tests;

use std::ops::Deref;

use crate::fields::Field;
use crate::literals::Found;
use crate::plan::{Condition, Plan, Test};
use crate::value::Value;

use self::choose::{MOST_DIMENSIONS, choose};
use self::constraints::Constraints;
pub use self::constraints::Source;
use self::dimension::Dimension;
use self::memo::{MOST, Memo, Rules, Vectors};
use self::needs::Needs;
use self::vectors::{CHUNK_BITS, Chunk, VectorId, WORD_CHUNKS};

/// The matcher of a plan.
#[derive(Debug)]
pub struct Index {
    rules: usize,
    dimensions: Vec<Dimension>,
    residuals: Vec<Box<[Condition]>>,
    undecided: Vec<Source>,
    needs: Needs,
}

/// Memory of one thread for one packet's candidates.
#[derive(Clone, Debug)]
pub struct Scratch {
    length: usize,
    vectors: [(u8, VectorId); MOST_DIMENSIONS],
    all_known: bool,
    chunk: usize,
    candidates: Chunk,
    /// All candidates, where they are remembered.
    known: Option<Rules>,
    memo: Option<Memo>,
    /// Whether the rules are `awake` that a search of the payload leaves; else it does not matter which are.
    searched: bool,
    awake: Box<[Chunk]>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            length: 0,
            vectors: [(0, 0); MOST_DIMENSIONS],
            all_known: false,
            chunk: usize::MAX,
            candidates: Chunk::EMPTY,
            known: None,
            memo: None,
            searched: false,
            awake: Box::default(),
        }
    }
}

impl Scratch {
    /// Whether no dimension was unknown, so that the residuals decide. Says nothing when there is no candidate.
    pub fn all_known(&self) -> bool {
        self.all_known
    }
}

/// What an index is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Rules of the plan.
    pub rules: usize,
    /// In the order in which they are looked at.
    pub dimensions: Vec<DimensionStructure>,
    /// What rules test and is left to their residuals, because it would not spare enough.
    pub residual: Vec<Source>,
    /// Rules that are left out once the payload was searched and none of their literals was found.
    pub searched: usize,
    /// Memory of the dimensions.
    pub bytes: usize,
}

/// What a dimension is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DimensionStructure {
    /// What is told apart.
    pub source: Source,
    /// Classes of values between which rules distinguish.
    pub classes: usize,
    /// Different vectors of rules among them.
    pub vectors: usize,
    /// Different chunks of 512 rules in those.
    pub chunks: usize,
    /// Memory.
    pub bytes: usize,
}

impl Index {
    /// Of a plan; `needs` tells the literals of which a payload must hold one so that a test can be true of it.
    pub fn build(plan: &Plan, needs: impl Fn(&Test) -> Option<Vec<usize>>) -> Self {
        Self {
            needs: Needs::of(plan, needs),
            ..Self::assemble(plan, choose)
        }
    }

    fn assemble(plan: &Plan, choose: impl FnOnce(Vec<Dimension>, &Constraints<'_>) -> Vec<Dimension>) -> Self {
        let constraints = Constraints::of(plan);
        let (dimensions, sources): (Vec<_>, Vec<_>) = constraints
            .pools
            .iter()
            .filter(|(_, pool)| !pool.regions().is_empty())
            .map(|(source, pool)| {
                let demand = |rule| constraints.region(rule, *source);
                (Dimension::build(*source, pool, plan, demand), *source)
            })
            .unzip();
        let dimensions = choose(dimensions, &constraints);
        let chosen = |source| dimensions.iter().find(|dimension| dimension.source == source);
        let undecided = sources.into_iter().filter(|source| chosen(*source).is_none()).collect();
        let proven = |rule, source| {
            chosen(source)
                .zip(constraints.region(rule, source))
                .is_some_and(|(dimension, region)| dimension.proves(region))
        };
        let residual = |(rule, conjuncts): (usize, &Vec<(Option<Source>, &Condition)>)| {
            let open = conjuncts
                .iter()
                .filter(|(source, _)| !source.is_some_and(|source| proven(rule, source)));
            open.map(|(_, condition)| (*condition).clone()).collect()
        };
        let residuals = constraints.conjuncts.iter().enumerate().map(residual).collect();
        Self {
            rules: plan.rules.len(),
            dimensions,
            residuals,
            undecided,
            needs: Needs::default(),
        }
    }

    /// Memory for one thread.
    pub fn scratch(&self) -> Scratch {
        // Fewer rules are looked up as fast as a memory.
        let memo = (self.rules > 2 * CHUNK_BITS || cfg!(test)).then(Memo::new);
        Scratch {
            memo,
            awake: self.needs.memory(),
            ..Scratch::default()
        }
    }

    /// The fields that [`Self::look_up`] asks for, in this order.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        self.dimensions.iter().map(|dimension| dimension.source.field)
    }

    /// Finds the candidates of a packet: `value_of` reads its fields.
    #[inline]
    pub fn look_up<'v>(&self, mut value_of: impl FnMut(Field) -> Value<'v>, scratch: &mut Scratch) {
        let mut left = u64::MAX;
        scratch.length = 0;
        scratch.all_known = true;
        scratch.chunk = usize::MAX;
        scratch.known = None;
        scratch.searched = false;
        for (number, dimension) in self.dimensions.iter().enumerate() {
            let Some(vector) = dimension.vector(&value_of(dimension.source.field)) else {
                scratch.all_known = false;
                continue;
            };
            scratch.vectors[scratch.length] = (number as u8, vector);
            scratch.length += 1;
            if self.rules <= CHUNK_BITS * WORD_CHUNKS {
                left &= dimension.vectors.summary(vector, 0);
                if left == 0 {
                    return;
                }
            }
        }
        if scratch.memo.is_some() && scratch.all_known {
            self.look_up_in_memo(scratch);
        }
    }

    fn look_up_in_memo(&self, scratch: &mut Scratch) {
        let Some(mut memo) = scratch.memo.take() else { return };
        let mut vectors: Vectors = [0; MOST_DIMENSIONS];
        for (place, (_, vector)) in vectors.iter_mut().zip(&scratch.vectors[..scratch.length]) {
            *place = *vector;
        }
        scratch.known = memo.recall(&vectors).or_else(|| {
            let rules = self.few(scratch)?;
            memo.remember(&vectors, rules);
            Some(rules)
        });
        scratch.memo = Some(memo);
    }

    /// All candidates, unless they are many.
    fn few(&self, scratch: &mut Scratch) -> Option<Rules> {
        let (mut rules, mut count, mut from) = ([0; MOST], 0, 0);
        while let Some(rule) = self.next(scratch, from) {
            *rules.get_mut(count)? = rule as u32;
            (count, from) = (count + 1, rule + 1);
        }
        Some((count as u8, rules))
    }

    /// Leaves those candidates out that need other literals than those found in the whole payload, once that is known.
    #[inline]
    pub fn keep_awake<F: Deref<Target = Found>>(&self, scratch: &mut Scratch, found: impl FnOnce() -> Option<F>) {
        if !scratch.searched
            && !scratch.awake.is_empty()
            && let Some(found) = found()
        {
            self.needs.awake(found.iter(), &mut scratch.awake);
            scratch.searched = true;
            scratch.chunk = usize::MAX;
        }
    }

    /// The first candidate from a rule on.
    #[inline]
    pub fn next(&self, scratch: &mut Scratch, mut from: usize) -> Option<usize> {
        if let Some((count, rules)) = &scratch.known {
            let rules = rules[..usize::from(*count)].iter().map(|rule| *rule as usize);
            return rules.into_iter().find(|rule| *rule >= from);
        }
        loop {
            if from / CHUNK_BITS != scratch.chunk {
                let chunk = self.next_chunk(scratch, from / CHUNK_BITS)?;
                from = from.max(chunk * CHUNK_BITS);
                scratch.candidates = self.chunk(scratch, chunk);
                scratch.chunk = chunk;
            }
            if let Some(bit) = scratch.candidates.next(from % CHUNK_BITS) {
                return Some(scratch.chunk * CHUNK_BITS + bit).filter(|rule| *rule < self.rules);
            }
            from = (scratch.chunk + 1) * CHUNK_BITS;
        }
    }

    /// The first chunk from one on that no vector says is empty.
    fn next_chunk(&self, scratch: &Scratch, from: usize) -> Option<usize> {
        let mut ahead = u64::MAX << (from % WORD_CHUNKS);
        for word in from / WORD_CHUNKS..self.rules.div_ceil(CHUNK_BITS * WORD_CHUNKS) {
            for (dimension, vector) in &scratch.vectors[..scratch.length] {
                ahead &= self.dimensions[usize::from(*dimension)].vectors.summary(*vector, word);
            }
            if ahead != 0 {
                return Some(word * WORD_CHUNKS + ahead.trailing_zeros() as usize)
                    .filter(|chunk| chunk * CHUNK_BITS < self.rules);
            }
            ahead = u64::MAX;
        }
        None
    }

    fn chunk(&self, scratch: &Scratch, chunk: usize) -> Chunk {
        let all = if scratch.searched {
            scratch.awake[chunk]
        } else {
            Chunk::FULL
        };
        scratch.vectors[..scratch.length]
            .iter()
            .fold(all, |left, (dimension, vector)| {
                left.and(self.dimensions[usize::from(*dimension)].vectors.chunk(*vector, chunk))
            })
    }

    /// What is left to ask of a candidate when all dimensions were known: the conjuncts that they do not prove, in the order
    /// of the condition.
    pub fn residual(&self, rule: usize) -> &[Condition] {
        &self.residuals[rule]
    }

    /// What it is made of.
    pub fn structure(&self) -> Structure {
        let dimensions = self.dimensions.iter().map(|dimension| DimensionStructure {
            source: dimension.source,
            classes: dimension.classes(),
            vectors: dimension.vectors.len(),
            chunks: dimension.vectors.chunks(),
            bytes: dimension.bytes(),
        });
        Structure {
            rules: self.rules,
            dimensions: dimensions.collect(),
            residual: self.undecided.clone(),
            searched: self.needs.count(),
            bytes: self.dimensions.iter().map(Dimension::bytes).sum(),
        }
    }
}
