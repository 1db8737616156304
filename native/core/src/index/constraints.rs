//! What each rule and its ancestors demand of each source, as regions that are kept once however many rules share them.

use std::fmt;
use std::rc::Rc;

use hashbrown::HashMap;

use super::region::{Kind, Region};
use crate::fields::{FIELDS, Field};
use crate::plan::{Action, Condition, Plan, Test};

/// What a dimension tells apart: the values of a field, or whether a list that is too long for that holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The field.
    pub field: Field,
    /// The list, by index into [`Plan::addresses`].
    pub list: Option<usize>,
}

impl Source {
    /// The values themselves.
    pub fn values(field: Field) -> Self {
        Self { field, list: None }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.field.name())?;
        out.write_str(self.list.map_or("", |_| " in a long list"))
    }
}

/// Number of a region in its [`Pool`].
pub type RegionId = u32;

/// Spans and texts of all regions of one field. A few lists, each with exceptions for many rules, would fill the memory:
/// what comes beyond this is left to be asked of the rules.
const MOST_SPANS: usize = 1 << 21;

const ALL_HOOKS: u8 = 0b1_1111;

/// The regions of one source that rules name.
pub struct Pool {
    kind: Kind,
    /// Spans and texts so far.
    spent: usize,
    regions: Vec<Rc<Region>>,
    numbers: HashMap<Rc<Region>, RegionId>,
    named: HashMap<(bool, usize), Option<RegionId>>,
    complements: HashMap<RegionId, RegionId>,
    intersections: HashMap<(RegionId, RegionId), RegionId>,
}

impl Pool {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            spent: 0,
            regions: Vec::new(),
            numbers: HashMap::new(),
            named: HashMap::new(),
            complements: HashMap::new(),
            intersections: HashMap::new(),
        }
    }

    /// What its values are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Each region once, by number.
    pub fn regions(&self) -> &[Rc<Region>] {
        &self.regions
    }

    /// None when there is no room for more.
    fn keep(&mut self, region: Region) -> Option<RegionId> {
        if let Some(number) = self.numbers.get(&region) {
            return Some(*number);
        }
        self.spent += region.size();
        if self.is_full() {
            return None;
        }
        let (region, number) = (Rc::new(region), self.regions.len() as RegionId);
        self.regions.push(Rc::clone(&region));
        self.numbers.insert(region, number);
        Some(number)
    }

    fn is_full(&self) -> bool {
        self.spent > MOST_SPANS
    }

    /// Large sets are read once, however many rules name them.
    fn of_test(&mut self, test: &Test, plan: &Plan) -> Option<RegionId> {
        let name = match test {
            Test::Set(index) => (true, *index),
            Test::Addresses(index) => (false, *index),
            Test::Not(inner) => return self.of_test(inner, plan).and_then(|region| self.not(region)),
            _ => return Region::of(test, self.kind, plan).and_then(|region| self.keep(region)),
        };
        if let Some(known) = self.named.get(&name) {
            return *known;
        }
        let region = Region::of(test, self.kind, plan).and_then(|region| self.keep(region));
        self.named.insert(name, region);
        region
    }

    fn not(&mut self, region: RegionId) -> Option<RegionId> {
        if let Some(known) = self.complements.get(&region) {
            return Some(*known);
        }
        if self.is_full() {
            return None;
        }
        let complement = self.keep(self.regions[region as usize].not())?;
        self.complements.insert(region, complement);
        Some(complement)
    }

    fn and(&mut self, one: RegionId, other: RegionId) -> Option<RegionId> {
        let pair = (one.min(other), one.max(other));
        if one == other {
            return Some(one);
        }
        if let Some(known) = self.intersections.get(&pair) {
            return Some(*known);
        }
        if self.is_full() {
            return None;
        }
        let both = self.keep(self.regions[one as usize].and(&self.regions[other as usize]))?;
        self.intersections.insert(pair, both);
        Some(both)
    }
}

type Demands = Vec<(Source, RegionId)>;

/// What rules demand.
pub struct Constraints<'p> {
    /// By source: the fields in the order of their table, then long lists.
    pub pools: Vec<(Source, Pool)>,
    /// By rule: what it and its ancestors together demand, a region a source.
    pub demands: Vec<Demands>,
    /// By rule: its own conjuncts, and of which source's demand each is a part.
    pub conjuncts: Vec<Vec<(Option<Source>, &'p Condition)>>,
}

impl<'p> Constraints<'p> {
    /// Those of a plan.
    pub fn of(plan: &'p Plan) -> Self {
        let marks = plan
            .rules
            .iter()
            .flat_map(|rule| &rule.actions)
            .any(|action| matches!(action, Action::Mark { .. }));
        let pool = |field| {
            let kind = Kind::of(field).filter(|_| field != Field::Mark || !marks)?;
            Some((Source::values(field), Pool::new(kind)))
        };
        let mut this = Self {
            pools: FIELDS.iter().filter_map(|(field, _)| pool(*field)).collect(),
            demands: Vec::with_capacity(plan.rules.len()),
            conjuncts: Vec::with_capacity(plan.rules.len()),
        };
        let mut ancestors: Vec<usize> = Vec::new();
        for (i, rule) in plan.rules.iter().enumerate() {
            ancestors.retain(|ancestor| i < plan.rules[*ancestor].end);
            let mut demands = ancestors
                .last()
                .map_or_else(Vec::new, |parent| this.demands[*parent].clone());
            if rule.hooks != 0 && rule.hooks & ALL_HOOKS != ALL_HOOKS {
                let hooks = Region::bytes(|hook| hook < 8 && rule.hooks >> hook & 1 != 0);
                this.demand(&mut demands, Source::values(Field::Hook), |pool| pool.keep(hooks));
            }
            let mut conjuncts = Vec::new();
            flatten(&rule.condition, &mut |condition| {
                let source = match condition {
                    Condition::Field(field, 0, test) => this.demand_test(&mut demands, *field, test, plan),
                    _ => None,
                };
                conjuncts.push((source, condition));
            });
            this.demands.push(demands);
            this.conjuncts.push(conjuncts);
            ancestors.push(i);
        }
        this
    }

    /// The number of what a rule demands of a source.
    pub fn region(&self, rule: usize, source: Source) -> Option<RegionId> {
        self.demands[rule]
            .iter()
            .find(|(other, _)| *other == source)
            .map(|(_, region)| *region)
    }

    /// What a rule demands of a source.
    pub fn demand_of(&self, rule: usize, source: Source) -> Option<&Region> {
        let region = self.region(rule, source)?;
        let (_, pool) = self.pools.iter().find(|(other, _)| *other == source)?;
        Some(&pool.regions()[region as usize])
    }

    fn demand_test(&mut self, demands: &mut Demands, field: Field, test: &Test, plan: &Plan) -> Option<Source> {
        let values = Source::values(field);
        self.demand(demands, values, |pool| pool.of_test(test, plan))
            .or_else(|| {
                let (list, said) = Region::among(test, plan).filter(|_| Kind::of(field) == Some(Kind::Address))?;
                let source = Source {
                    list: Some(list),
                    ..values
                };
                if self.pools.iter().all(|(other, _)| *other != source) {
                    self.pools.push((source, Pool::new(Kind::Byte)));
                }
                self.demand(demands, source, |pool| pool.keep(said))
            })
    }

    /// Adds a demand where the source is indexed and the region can be said, and tells it then.
    fn demand(
        &mut self,
        demands: &mut Demands,
        source: Source,
        region: impl FnOnce(&mut Pool) -> Option<RegionId>,
    ) -> Option<Source> {
        let (_, pool) = self.pools.iter_mut().find(|(other, _)| *other == source)?;
        let region = region(pool)?;
        match demands.iter_mut().find(|(other, _)| *other == source) {
            Some((_, before)) => *before = pool.and(*before, region)?,
            None => demands.push((source, region)),
        }
        Some(source)
    }
}

fn flatten<'p>(condition: &'p Condition, take: &mut impl FnMut(&'p Condition)) {
    match condition {
        Condition::All(inner) => inner.iter().for_each(|each| flatten(each, take)),
        other => take(other),
    }
}
