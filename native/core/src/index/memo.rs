//! Candidates of packets that were looked up before. They follow from the packet's classes alone, and however many rules
//! there are, traffic has few combinations of classes.

use super::choose::MOST_DIMENSIONS;
use super::vectors::VectorId;

/// Combinations that are remembered; a newer one takes an older one's place.
const PLACES: usize = 512;

/// Candidates of one combination. With more it is not remembered.
pub const MOST: usize = 6;

/// The vectors of a packet, one a dimension; those of fewer dimensions end with zeros.
pub type Vectors = [VectorId; MOST_DIMENSIONS];

/// Rules in order, as many as the number says.
pub type Rules = (u8, [u32; MOST]);

#[derive(Clone, Copy, Debug)]
struct Place {
    taken: bool,
    vectors: Vectors,
    rules: Rules,
}

/// Memory of one thread, for one index.
#[derive(Clone, Debug)]
pub struct Memo(Box<[Place]>);

impl Memo {
    /// Of nothing yet.
    pub fn new() -> Self {
        let free = Place {
            taken: false,
            vectors: [0; MOST_DIMENSIONS],
            rules: (0, [0; MOST]),
        };
        Self(vec![free; PLACES].into())
    }

    /// The candidates of packets with these vectors, if they are remembered.
    #[inline]
    pub fn recall(&self, vectors: &Vectors) -> Option<Rules> {
        let place = &self.0[number(vectors)];
        (place.taken && place.vectors == *vectors).then_some(place.rules)
    }

    /// Remembers them.
    pub fn remember(&mut self, vectors: &Vectors, rules: Rules) {
        self.0[number(vectors)] = Place {
            taken: true,
            vectors: *vectors,
            rules,
        };
    }
}

#[inline]
fn number(vectors: &Vectors) -> usize {
    let mixed = vectors.iter().fold(0_u64, |mixed, vector| {
        (mixed ^ u64::from(*vector))
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29)
    });
    (mixed >> 32) as usize % PLACES
}
