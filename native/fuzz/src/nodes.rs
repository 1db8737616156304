//! Documents of msgpack, changed so that they stay documents: a node takes another's place, or comes twice, or goes.

use rmpv::Value;

/// A document with one of its nodes changed, which and how says the seed; None for bytes that are no document.
pub fn exchanged(document: &[u8], seed: u32) -> Option<Vec<u8>> {
    let mut tree = rmpv::decode::read_value(&mut &*document).ok()?;
    let mut random = Random(u64::from(seed));
    let count = each(&tree).len();
    let other = each(&tree)[random.below(count)].clone();
    let new = random.value(other);
    let target = random.below(count);
    let mut place = nth(&mut tree, &mut { target })?;
    match (random.below(4), &mut place) {
        (0, Value::Array(items)) if !items.is_empty() => drop(items.remove(random.below(items.len()))),
        (1, Value::Array(items)) => items.push(new),
        _ => *place = new,
    }
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &tree).ok()?;
    Some(bytes)
}

/// A node's children; the keys of a mapping stay what they are.
fn children(node: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match node {
        Value::Array(items) => Box::new(items.iter()),
        Value::Map(pairs) => Box::new(pairs.iter().map(|(_, value)| value)),
        _ => Box::new(std::iter::empty()),
    }
}

/// Every node, in preorder.
fn each(node: &Value) -> Vec<&Value> {
    std::iter::once(node).chain(children(node).flat_map(each)).collect()
}

/// The node of a number in preorder, which counts down on the way.
fn nth<'v>(node: &'v mut Value, number: &mut usize) -> Option<&'v mut Value> {
    if *number == 0 {
        return Some(node);
    }
    *number -= 1;
    match node {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, number)),
        Value::Map(pairs) => pairs.iter_mut().find_map(|(_, value)| nth(value, number)),
        _ => None,
    }
}

/// Numbers without an order.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most.max(1)
    }

    /// Another node as it is, or a number that may be an index, a bound, or too much.
    fn value(&mut self, other: Value) -> Value {
        const NUMBERS: [u64; 12] = [
            0,
            1,
            2,
            3,
            5,
            17,
            43,
            64,
            0xFFFF,
            0xFFFF_FFFF,
            i64::MAX as u64,
            u64::MAX,
        ];
        match self.below(8) {
            0 => Value::from(NUMBERS[self.below(NUMBERS.len())]),
            1 => Value::Nil,
            2 => Value::from(self.below(2) == 0),
            3 => Value::from(-1),
            _ => other,
        }
    }
}
