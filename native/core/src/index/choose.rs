//! Which dimensions pay, in which order. Asked by trial: packets that are each made for one of the rules, and how many
//! candidates each dimension leaves them. A dimension that spares less than half a candidate costs more than it saves.

use super::constraints::Constraints;
use super::dimension::Dimension;
use super::vectors::{CHUNK_BITS, Chunk, VectorId};
use crate::fields::Field;

/// How many packets are tried.
const PACKETS: usize = 128;

/// Dimensions that an index has at most.
pub const MOST_DIMENSIONS: usize = 12;

/// A packet on trial: its vector in each dimension, and the rules that the chosen ones leave.
struct Packet {
    vectors: Vec<VectorId>,
    left: Vec<Chunk>,
}

impl Packet {
    fn count(&self) -> u32 {
        self.left.iter().map(Chunk::count).sum()
    }

    fn count_with(&self, number: usize, dimension: &Dimension) -> u32 {
        let chunk = |i| dimension.vectors.chunk(self.vectors[number], i);
        self.left
            .iter()
            .enumerate()
            .map(|(i, left)| left.and(chunk(i)).count())
            .sum()
    }

    fn restrict(&mut self, number: usize, dimension: &Dimension) {
        for (i, left) in self.left.iter_mut().enumerate() {
            *left = left.and(dimension.vectors.chunk(self.vectors[number], i));
        }
    }
}

/// The dimensions to look at, best first. The hook stays whatever it spares: no condition of a rule asks for it.
pub fn choose(dimensions: Vec<Dimension>, constraints: &Constraints<'_>) -> Vec<Dimension> {
    let mut packets = trial(&dimensions, constraints);
    let mut open: Vec<Option<Dimension>> = dimensions.into_iter().map(Some).collect();
    let mut chosen = Vec::new();
    let hook = open
        .iter()
        .position(|dimension| dimension.as_ref().is_some_and(|one| one.source.field == Field::Hook));
    let mut best = hook.map(|hook| (hook, f64::INFINITY));
    while chosen.len() < MOST_DIMENSIONS {
        best = best.or_else(|| most_spared(&open, &packets));
        let Some((number, _)) = best.take().filter(|(_, spared)| *spared >= 0.5) else {
            break;
        };
        let Some(dimension) = open[number].take() else { break };
        packets
            .iter_mut()
            .for_each(|packet| packet.restrict(number, &dimension));
        chosen.push(dimension);
    }
    chosen
}

fn most_spared(open: &[Option<Dimension>], packets: &[Packet]) -> Option<(usize, f64)> {
    let count: u32 = packets.iter().map(Packet::count).sum();
    let spared = |number, dimension| {
        let with: u32 = packets.iter().map(|packet| packet.count_with(number, dimension)).sum();
        f64::from(count - with) / packets.len().max(1) as f64
    };
    open.iter()
        .enumerate()
        .filter_map(|(number, dimension)| Some((number, spared(number, dimension.as_ref()?))))
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
}

fn trial(dimensions: &[Dimension], constraints: &Constraints<'_>) -> Vec<Packet> {
    let rules = constraints.demands.len();
    let everything: Vec<Chunk> = vec![Chunk::FULL; rules.div_ceil(CHUNK_BITS)];
    (0..PACKETS.min(rules))
        .map(|packet| {
            let rule = packet * rules / PACKETS.min(rules);
            let vectors = dimensions.iter().enumerate().map(|(number, dimension)| {
                let seed = scattered(packet * MOST_DIMENSIONS + number);
                let demand = constraints.demand_of(rule, dimension.source);
                let demanded = demand.and_then(|region| dimension.vector_within(region, seed));
                demanded.unwrap_or((seed % dimension.vectors.len()) as VectorId)
            });
            Packet {
                vectors: vectors.collect(),
                left: everything.clone(),
            }
        })
        .collect()
}

/// Numbers without an order, the same in every run.
fn scattered(number: usize) -> usize {
    (number as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize >> 20
}
