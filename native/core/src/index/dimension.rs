//! One source that the index looks at: from a field's value in a packet to the vector of the rules that it does not rule out.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;

use super::constraints::{Pool, RegionId, Source};
use super::region::{Key, Kind, Region, Spans};
use super::vectors::{CHUNK_BITS, Chunk, Sparse, VectorId, Vectors, WILD, Writer, sparse};
use crate::plan::{Addresses, Plan};
use crate::value::{Address, Value};

/// Numbers of chunks that a dimension may keep; what would need more is left to the rules' own conditions.
const MOST_NUMBERS: usize = 16 << 20;

/// A source and its classes.
#[derive(Debug)]
pub struct Dimension {
    /// What is told apart.
    pub source: Source,
    /// By class.
    pub vectors: Vectors,
    lookup: Lookup,
    left: Vec<RegionId>,
}

#[derive(Debug)]
enum Lookup {
    Bytes(Steps<u64>),
    Numbers(Steps<u64>),
    Addresses(Steps<u32>, Steps<u128>),
    /// By 0 or 1: whether the list holds the address.
    Among(Arc<Addresses>, Steps<u64>),
    Texts {
        listed: HashMap<Box<[u8]>, VectorId>,
        other: VectorId,
    },
}

impl Dimension {
    /// Of the rules of a plan, of which `demand` tells what each demands of the source, by region of the pool.
    pub fn build(source: Source, pool: &Pool, plan: &Plan, demand: impl Fn(usize) -> Option<RegionId>) -> Self {
        let rules = plan.rules.len();
        let mut groups: Vec<Vec<usize>> = vec![Vec::new(); pool.regions().len()];
        for rule in 0..rules {
            if let Some(region) = demand(rule) {
                groups[region as usize].push(rule);
            }
        }
        let mut groups: Vec<Group> = pool
            .regions()
            .iter()
            .zip(groups)
            .enumerate()
            .filter(|(_, (_, rules))| !rules.is_empty())
            .map(|(number, (region, rules))| Group::new(number as RegionId, region, rules))
            .collect();
        let left = leave(&mut groups, plan, &demand);
        let mut writer = Writer::new(wild(&groups, rules));
        let lookup = match (pool.kind(), source.list) {
            (_, Some(list)) => Lookup::Among(Arc::clone(&plan.addresses[list]), sweep(&groups, &mut writer, numbers)),
            (Kind::Byte, None) => Lookup::Bytes(sweep(&groups, &mut writer, numbers)),
            (Kind::Number, None) => Lookup::Numbers(sweep(&groups, &mut writer, numbers)),
            (Kind::Address, None) => Lookup::Addresses(
                sweep(&groups, &mut writer, v4_addresses),
                sweep(&groups, &mut writer, v6_addresses),
            ),
            (Kind::Text, None) => texts(&groups, &mut writer),
        };
        Self {
            source,
            vectors: writer.finish(),
            lookup,
            left,
        }
    }

    /// Whether the vectors hold what a region demands; otherwise its rules are in all of them.
    pub fn proves(&self, region: RegionId) -> bool {
        self.left.binary_search(&region).is_err()
    }

    /// The vector of a value; None when it cannot be known, or is none that the field can have.
    #[inline]
    pub fn vector(&self, value: &Value<'_>) -> Option<VectorId> {
        match (&self.lookup, value) {
            (_, Value::Absent) => Some(WILD),
            (Lookup::Bytes(steps), Value::Number(number @ ..=255))
            | (Lookup::Numbers(steps), Value::Number(number)) => Some(steps.at(*number)),
            (Lookup::Addresses(steps, _), Value::Address(Address::V4(address))) => Some(steps.at(*address)),
            (Lookup::Addresses(_, steps), Value::Address(Address::V6(address))) => Some(steps.at(*address)),
            (Lookup::Among(list, steps), Value::Address(address)) => Some(steps.at(list.contains(*address).into())),
            (Lookup::Texts { listed, other }, Value::Bytes(text)) => Some(*listed.get(*text).unwrap_or(other)),
            _ => None,
        }
    }

    /// The vector of one of the values of a region, another for another seed.
    pub fn vector_within(&self, region: &Region, seed: usize) -> Option<VectorId> {
        match (&self.lookup, region.pick(seed)?) {
            (Lookup::Among(_, steps), Value::Number(said)) => Some(steps.at(said)),
            (_, value) => self.vector(&value),
        }
    }

    /// How many classes of values there are, that of packets without the field among them.
    pub fn classes(&self) -> usize {
        1 + match &self.lookup {
            Lookup::Bytes(steps) | Lookup::Numbers(steps) | Lookup::Among(_, steps) => steps.len(),
            Lookup::Addresses(v4, v6) => v4.len() + v6.len(),
            Lookup::Texts { listed, .. } => listed.len() + 1,
        }
    }

    /// How much memory it takes.
    pub fn bytes(&self) -> usize {
        self.vectors.bytes()
            + match &self.lookup {
                Lookup::Bytes(steps) | Lookup::Numbers(steps) | Lookup::Among(_, steps) => steps.bytes(),
                Lookup::Addresses(v4, v6) => v4.bytes() + v6.bytes(),
                Lookup::Texts { listed, .. } => {
                    listed.allocation_size() + listed.keys().map(|text| text.len()).sum::<usize>()
                }
            }
    }
}

/// Rules that demand the same.
struct Group<'p> {
    number: RegionId,
    region: &'p Rc<Region>,
    rules: Sparse,
}

impl<'p> Group<'p> {
    fn new(number: RegionId, region: &'p Rc<Region>, rules: Vec<usize>) -> Self {
        Self {
            number,
            region,
            rules: sparse(rules),
        }
    }
}

fn wild(groups: &[Group<'_>], rules: usize) -> Vec<Chunk> {
    let mut wild: Vec<Chunk> = sparse(0..rules).into_iter().map(|(_, chunk)| chunk).collect();
    for (number, chunk) in groups.iter().flat_map(|group| &group.rules) {
        wild[*number].toggle(chunk);
    }
    wild
}

/// Leaves out the groups that lie in the most classes until the rest fits: such rules are ruled out least often.
fn leave(groups: &mut Vec<Group<'_>>, plan: &Plan, demand: &impl Fn(usize) -> Option<RegionId>) -> Vec<RegionId> {
    let mut lines: (Vec<u64>, Vec<u32>, Vec<u128>) = Default::default();
    let mut names = BTreeSet::new();
    for group in &*groups {
        match &**group.region {
            Region::Numbers(spans) => lines.0.extend(edges(spans)),
            Region::Addresses(v4, v6) => {
                lines.1.extend(edges(v4));
                lines.2.extend(edges(v6));
            }
            Region::Texts { listed, .. } => names.extend(listed),
        }
    }
    sort(&mut lines.0);
    sort(&mut lines.1);
    sort(&mut lines.2);
    let classes = lines.0.len() + lines.1.len() + lines.2.len() + names.len();
    if classes * plan.rules.len().div_ceil(CHUNK_BITS) <= MOST_NUMBERS {
        return Vec::new();
    }
    let cost = |group: &Group<'_>| {
        let classes = match &**group.region {
            Region::Numbers(spans) => covered(spans, &lines.0),
            Region::Addresses(v4, v6) => covered(v4, &lines.1) + covered(v6, &lines.2),
            Region::Texts { listed, all_but: false } => listed.len(),
            Region::Texts { listed, all_but: true } => names.len() + 1 - listed.len(),
        };
        classes * group.rules.len()
    };
    groups.sort_by_cached_key(cost);
    let mut room = MOST_NUMBERS;
    let fit = groups
        .iter()
        .take_while(|group| room.checked_sub(cost(group)).map(|left| room = left).is_some())
        .count();
    let left = with_ancestors(groups.drain(fit..).map(|group| group.number).collect(), plan, demand);
    groups.retain(|group| !left.contains(&group.number));
    left.into_iter().collect()
}

/// Adds what the ancestors of their rules demand. A candidate's ancestors are not asked again when they are none, so a rule
/// that is always a candidate needs ancestors that always are.
fn with_ancestors(
    mut left: BTreeSet<RegionId>,
    plan: &Plan,
    demand: &impl Fn(usize) -> Option<RegionId>,
) -> BTreeSet<RegionId> {
    loop {
        let before = left.len();
        let mut ancestors: Vec<usize> = Vec::new();
        for rule in 0..plan.rules.len() {
            ancestors.retain(|ancestor| rule < plan.rules[*ancestor].end);
            if demand(rule).is_some_and(|region| left.contains(&region)) {
                left.extend(ancestors.iter().filter_map(|ancestor| demand(*ancestor)));
            }
            ancestors.push(rule);
        }
        if left.len() == before {
            return left;
        }
    }
}

fn edges<K: Key>(spans: &Spans<K>) -> impl Iterator<Item = K> {
    spans.iter().flat_map(|(low, high)| [Some(low), high.after()]).flatten()
}

fn sort<K: Key>(positions: &mut Vec<K>) {
    positions.sort_unstable();
    positions.dedup();
}

fn covered<K: Key>(spans: &Spans<K>, edges: &[K]) -> usize {
    let before = |position: K| edges.partition_point(|edge| *edge < position);
    spans
        .iter()
        .map(|(low, high)| high.after().map_or(edges.len(), before) - before(low))
        .sum()
}

fn numbers(region: &Region) -> Option<&Spans<u64>> {
    if let Region::Numbers(spans) = region {
        Some(spans)
    } else {
        None
    }
}

fn v4_addresses(region: &Region) -> Option<&Spans<u32>> {
    if let Region::Addresses(spans, _) = region {
        Some(spans)
    } else {
        None
    }
}

fn v6_addresses(region: &Region) -> Option<&Spans<u128>> {
    if let Region::Addresses(_, spans) = region {
        Some(spans)
    } else {
        None
    }
}

/// Goes along a line of values: at each edge of a region its rules come in or go out.
fn sweep<K: Key>(groups: &[Group<'_>], writer: &mut Writer, line: impl Fn(&Region) -> Option<&Spans<K>>) -> Steps<K> {
    let mut turns: Vec<(K, usize)> = Vec::new();
    let mut to_the_end: Vec<usize> = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        for (low, high) in line(group.region).into_iter().flat_map(Spans::iter) {
            turns.push((low, number));
            match high.after() {
                Some(behind) => turns.push((behind, number)),
                None => to_the_end.push(number),
            }
        }
    }
    turns.sort_unstable();
    let mut classes = vec![(K::FIRST, WILD)];
    let mut walk = Walk::new(groups, writer);
    for same in turns.chunk_by(|(one, _), (other, _)| one == other) {
        let (start, vector) = (same[0].0, walk.turn(same.iter().map(|(_, group)| *group)));
        if start == K::FIRST {
            classes.clear();
        }
        if classes.last().is_none_or(|(_, before)| *before != vector) {
            classes.push((start, vector));
        }
    }
    to_the_end.into_iter().for_each(|group| walk.owe(group));
    walk.write();
    Steps::new(&classes)
}

/// From vector to vector. A long list has the same two turns at each of its entries: those are made once.
struct Walk<'g, 'p> {
    groups: &'g [Group<'p>],
    writer: &'g mut Writer,
    at: VectorId,
    /// Where a turn of one group leads, from where it was made.
    known: HashMap<(VectorId, usize), VectorId>,
    /// Groups whose rules the writer has still to take out or put in.
    owed: BTreeSet<usize>,
}

impl<'g, 'p> Walk<'g, 'p> {
    fn new(groups: &'g [Group<'p>], writer: &'g mut Writer) -> Self {
        Self {
            groups,
            writer,
            at: WILD,
            known: HashMap::new(),
            owed: BTreeSet::new(),
        }
    }

    /// The rules of some groups come in or go out.
    fn turn(&mut self, turning: impl ExactSizeIterator<Item = usize> + Clone) -> VectorId {
        turning.clone().for_each(|group| self.owe(group));
        let single = turning.clone().next().filter(|_| turning.len() == 1);
        let Some(step) = single.map(|group| (self.at, group)) else {
            self.at = self.write();
            return self.at;
        };
        self.at = match self.known.get(&step) {
            Some(vector) => *vector,
            None => self.write(),
        };
        self.known.insert(step, self.at);
        self.at
    }

    fn owe(&mut self, group: usize) {
        if !self.owed.remove(&group) {
            self.owed.insert(group);
        }
    }

    fn write(&mut self) -> VectorId {
        while let Some(group) = self.owed.pop_first() {
            self.writer.toggle(&self.groups[group].rules);
        }
        self.writer.vector()
    }
}

fn texts(groups: &[Group<'_>], writer: &mut Writer) -> Lookup {
    let mut named: BTreeMap<&[u8], Vec<&Sparse>> = BTreeMap::new();
    for Group { region, rules, .. } in groups {
        if let Region::Texts { listed, all_but } = &***region {
            listed
                .iter()
                .for_each(|text| named.entry(text).or_default().push(rules));
            if *all_but {
                writer.toggle(rules);
            }
        }
    }
    let other = writer.vector();
    let mut listed = HashMap::with_capacity(named.len());
    for (text, exceptions) in named {
        exceptions.iter().for_each(|rules| writer.toggle(rules));
        listed.insert(text.into(), writer.vector());
        exceptions.iter().for_each(|rules| writer.toggle(rules));
    }
    Lookup::Texts { listed, other }
}

/// A function of a number that is constant between steps. A table over the upper bits of the distance from the first step
/// tells between which steps to search.
#[derive(Debug)]
struct Steps<K> {
    starts: Box<[K]>,
    vectors: Box<[VectorId]>,
    base: K,
    last: K,
    shift: u32,
    buckets: Box<[u32]>,
}

impl<K: Key> Steps<K> {
    /// Of classes by their first number, in order; the first begins at the lowest.
    fn new(classes: &[(K, VectorId)]) -> Self {
        let (starts, vectors): (Vec<K>, Vec<VectorId>) = classes.iter().copied().unzip();
        let base = *starts.get(1).unwrap_or(&K::LAST);
        let last = if starts.len() > 1 {
            starts[starts.len() - 1]
        } else {
            base
        };
        let shift = last
            .bits_from(base)
            .saturating_sub((starts.len().ilog2() + 2).clamp(8, 16));
        let count = last.steps_from(base, shift) + 1;
        let mut buckets = vec![0u32; count + 1];
        // How many steps begin in each bucket, then how many have begun before its end; 0 is the step before all.
        for start in starts.iter().skip(1) {
            buckets[start.steps_from(base, shift) + 1] += 1;
        }
        for i in 1..=count {
            buckets[i] += buckets[i - 1];
        }
        Self {
            starts: starts.into(),
            vectors: vectors.into(),
            base,
            last,
            shift,
            buckets: buckets.into(),
        }
    }

    #[inline]
    fn at(&self, key: K) -> VectorId {
        if key < self.base {
            return self.vectors[0];
        }
        if key >= self.last {
            return self.vectors[self.vectors.len() - 1];
        }
        let bucket = key.steps_from(self.base, self.shift);
        let (low, high) = (self.buckets[bucket] as usize, self.buckets[bucket + 1] as usize);
        self.vectors[low + self.starts[low + 1..=high].partition_point(|start| *start <= key)]
    }

    fn len(&self) -> usize {
        self.starts.len()
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.vectors) + size_of_val(&*self.buckets)
    }
}
