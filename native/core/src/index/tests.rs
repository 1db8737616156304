//! The index against a naive reading of every rule: what it leaves out is false, and what it says is proven is true.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::region::MOST_RANGES;
use super::*;
use crate::literals::{Found, Searcher};
use crate::plan::{Action, Addresses, Elements, Place, Rule, Set, Test};
use crate::ranges::Ranges;
use crate::value::{Address, Cause, Truth, Unknown, What};

const TEXTS: [&str; 4] = ["lo", "eth0", "eth1", "wg"];
/// Where a plan has the addresses of [`EVEN`].
const LONG: usize = 3;
/// A list that is just too long to be indexed: the lowest even addresses.
static EVEN: LazyLock<Arc<Addresses>> = LazyLock::new(|| {
    let even: Vec<(u32, u32)> = (0..=MOST_RANGES as u32).map(|i| (2 * i, 2 * i)).collect();
    address(&even)
});
const NUMBERS: [u64; 12] = [0, 1, 2, 4, 6, 17, 22, 80, 255, 256, 65_535, u64::MAX];
const FIELDS: [Field; 11] = [
    Field::Hook,
    Field::Protocol,
    Field::TcpFlags,
    Field::Dport,
    Field::Length,
    Field::Mark,
    Field::Hour,
    Field::Saddr,
    Field::Daddr,
    Field::Iifname,
    Field::Payload,
];

fn rule(depth: usize, condition: Condition) -> (usize, Rule) {
    let rule = Rule {
        id: String::new(),
        hooks: 0,
        end: 0,
        condition,
        limit: None,
        actions: Vec::new(),
        verdict: None,
        flow: false,
        place: Place::Native,
    };
    (depth, rule)
}

/// A plan of rules with their depths in the tree.
fn plan(rules: Vec<(usize, Rule)>) -> Plan {
    let depths: Vec<usize> = rules
        .iter()
        .scan(None, |before: &mut Option<usize>, (depth, _)| {
            *before = Some((*depth).min(before.map_or(0, |before| before + 1)));
            *before
        })
        .collect();
    let end = |i: usize| {
        (i + 1..depths.len())
            .find(|next| depths[*next] <= depths[i])
            .unwrap_or(depths.len())
    };
    let rules = rules
        .into_iter()
        .enumerate()
        .map(|(i, (_, rule))| Rule { end: end(i), ..rule })
        .collect();
    let addresses = |v4: &[(u32, u32)], v6: &[(u128, u128)]| {
        Arc::new(Addresses {
            v4: Ranges::from_pairs(v4.iter().copied()).unwrap(),
            v6: Ranges::from_pairs(v6.iter().copied()).unwrap(),
        })
    };
    let set = |dynamic, elements| Set {
        name: String::new(),
        kind: String::new(),
        dynamic,
        timeout: None,
        size: 9,
        elements,
    };
    Plan {
        addresses: vec![
            addresses(&[(0x0a00_0000, 0x0aff_ffff)], &[]),
            addresses(
                &[(0, 7), (0x0a00_0001, 0x0a00_0001), (u32::MAX, u32::MAX)],
                &[(1, 1), (u128::MAX - 1, u128::MAX)],
            ),
            addresses(&[], &[(0x2001_0db8 << 96, (0x2001_0db9 << 96) - 1)]),
            Arc::clone(&EVEN),
        ],
        sets: vec![
            set(false, Elements::Addresses(1)),
            set(true, Elements::Addresses(0)),
            set(false, Elements::Ranges(ranges(&[(1, 22), (80, 80)]))),
            set(
                false,
                Elements::Strings(vec![b"eth0".to_vec().into(), b"lo".to_vec().into()]),
            ),
            set(false, Elements::Addresses(LONG)),
        ],
        rules,
        ..Plan::default()
    }
}

fn ranges(pairs: &[(u64, u64)]) -> Ranges<u64> {
    Ranges::from_pairs(pairs.iter().copied()).unwrap()
}

/// One value of a field that is not absent, read without any index.
fn naive(test: &Test, value: &Value<'_>, plan: &Plan) -> bool {
    let elements = |elements: &Elements| match (elements, value) {
        (Elements::Addresses(index), Value::Address(_)) => naive(&Test::Addresses(*index), value, plan),
        (Elements::Ranges(ranges), Value::Number(_)) => naive(&Test::Ranges(ranges.clone()), value, plan),
        (Elements::Strings(strings), Value::Bytes(text)) => strings.iter().any(|string| string.as_slice() == *text),
        _ => false,
    };
    match (test, value) {
        (Test::Not(inner), _) => !naive(inner, value, plan),
        (Test::Any(inner), _) => inner.iter().any(|each| naive(each, value, plan)),
        (Test::All(inner), _) => inner.iter().all(|each| naive(each, value, plan)),
        (Test::Set(index), _) => elements(&plan.sets[*index].elements),
        (Test::Ranges(ranges), Value::Number(number)) => ranges.iter().any(|(low, high)| (low..=high).contains(number)),
        (Test::Masked { value, mask }, Value::Number(number)) => number & mask == *value,
        (Test::AnyBit(bits), Value::Number(number)) => number & bits != 0,
        (Test::Addresses(index), Value::Address(address)) if Arc::ptr_eq(&plan.addresses[*index], &EVEN) => {
            matches!(address, Address::V4(number) if number % 2 == 0 && *number <= 2 * MOST_RANGES as u32)
        }
        (Test::Addresses(index), Value::Address(Address::V4(address))) => plan.addresses[*index]
            .v4
            .iter()
            .any(|(low, high)| (low..=high).contains(address)),
        (Test::Addresses(index), Value::Address(Address::V6(address))) => plan.addresses[*index]
            .v6
            .iter()
            .any(|(low, high)| (low..=high).contains(address)),
        (Test::Equals(text), Value::Bytes(bytes)) => **text == **bytes,
        (Test::StartsWith(text), Value::Bytes(bytes)) => bytes.starts_with(text),
        _ => false,
    }
}

fn truth(condition: &Condition, packet: &impl Fn(Field) -> Value<'static>, plan: &Plan) -> Truth {
    match condition {
        Condition::All(inner) => Truth::every(inner.iter().map(|each| truth(each, packet, plan))),
        Condition::Any(inner) => Truth::some(inner.iter().map(|each| truth(each, packet, plan))),
        Condition::Not(inner) => truth(inner, packet, plan).negate(),
        Condition::Field(field, 0, test) => match packet(*field) {
            Value::Absent => Truth::False,
            Value::Unknown(unknown) => Truth::Unknown(unknown),
            value => naive(test, &value, plan).into(),
        },
        Condition::Field(..) | Condition::Bytes(_) | Condition::Python => Truth::Pending,
    }
}

fn candidates(index: &Index, packet: &impl Fn(Field) -> Value<'static>, scratch: &mut Scratch) -> Vec<usize> {
    index.look_up(packet, scratch);
    std::iter::successors(index.next(scratch, 0), |rule| index.next(scratch, rule + 1)).collect()
}

fn holds_against_naive(plan: &Plan, index: &Index, packet: &impl Fn(Field) -> Value<'static>) {
    let mut scratch = Scratch::default();
    let found = candidates(index, packet, &mut scratch);
    let Value::Number(hook) = packet(Field::Hook) else {
        panic!("a packet has a hook")
    };
    let mut possible = vec![true; plan.rules.len()];
    for (i, rule) in plan.rules.iter().enumerate() {
        let whole = truth(&rule.condition, packet, plan);
        let here = rule.hooks == 0 || rule.hooks >> hook & 1 != 0;
        if !here || whole == Truth::False {
            possible[i..rule.end].fill(false);
        }
        let candidate = found.binary_search(&i).is_ok();
        let next = found.get(found.partition_point(|found| *found <= i));
        assert!(
            candidate || next.is_none_or(|next| *next >= rule.end),
            "rule {i} is no candidate, but one inside is"
        );
        assert!(candidate || !possible[i], "rule {i} is missing: {whole:?}");
        assert!(here || !candidate, "rule {i} is of another hook");
        if candidate && scratch.all_known() {
            let rest = Truth::every(index.residual(i).iter().map(|condition| truth(condition, packet, plan)));
            assert_eq!(rest, whole, "what is left of rule {i}: {:?}", index.residual(i));
        }
    }
}

fn a_range() -> impl Strategy<Value = Ranges<u64>> {
    proptest::collection::btree_set(0..NUMBERS.len(), 0..6).prop_map(|ends| {
        let ends: Vec<u64> = ends.into_iter().map(|end| NUMBERS[end]).collect();
        Ranges::from_pairs(ends.chunks(2).map(|pair| (pair[0], *pair.last().unwrap()))).unwrap()
    })
}

fn a_test() -> impl Strategy<Value = Test> {
    let text = || (0..TEXTS.len()).prop_map(|text| Box::from(TEXTS[text].as_bytes()));
    let leaf = prop_oneof![
        4 => a_range().prop_map(Test::Ranges),
        4 => (0..4usize).prop_map(Test::Addresses),
        1 => (0..8u64, 0..8u64).prop_map(|(value, mask)| Test::Masked { value, mask }),
        1 => (0..8u64).prop_map(Test::AnyBit),
        3 => text().prop_map(Test::Equals),
        1 => text().prop_map(Test::StartsWith),
        2 => (0..5usize).prop_map(Test::Set),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|test| Test::Not(Box::new(test))),
            proptest::collection::vec(inner.clone(), 0..3).prop_map(|tests| Test::Any(tests.into())),
            proptest::collection::vec(inner, 0..3).prop_map(|tests| Test::All(tests.into())),
        ]
    })
}

fn a_condition() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        9 => (0..FIELDS.len(), a_test()).prop_map(|(field, test)| Condition::Field(FIELDS[field], 0, test)),
        1 => a_test().prop_map(|test| Condition::Field(Field::Saddr, 1, test)),
        1 => Just(Condition::Python),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            4 => proptest::collection::vec(inner.clone(), 0..4).prop_map(|all| Condition::All(all.into())),
            1 => proptest::collection::vec(inner.clone(), 0..3).prop_map(|any| Condition::Any(any.into())),
            1 => inner.prop_map(|condition| Condition::Not(Box::new(condition))),
        ]
    })
}

fn a_plan() -> impl Strategy<Value = Plan> {
    let rule =
        (0..4usize, a_condition(), prop_oneof![3 => Just(0u8), 1 => 1..32u8]).prop_map(|(depth, condition, hooks)| {
            let (depth, rule) = rule(depth, condition);
            (depth, Rule { hooks, ..rule })
        });
    (proptest::collection::vec(rule, 0..24), proptest::bool::weighted(0.2)).prop_map(|(mut rules, marks)| {
        if let (true, Some((_, first))) = (marks, rules.first_mut()) {
            first.actions.push(Action::Mark { value: 1, mask: 1 });
        }
        plan(rules)
    })
}

const UNKNOWN: Unknown = Unknown {
    cause: Cause::Fragment,
    what: What::Said,
};

fn a_value(field: Field) -> BoxedStrategy<Value<'static>> {
    let number = |below: u64| {
        (0..NUMBERS.len())
            .prop_map(move |number| Value::Number(NUMBERS[number].min(below - 1)))
            .boxed()
    };
    let value = match field {
        Field::Hook => return number(5),
        Field::Saddr | Field::Daddr => prop_oneof![
            proptest::sample::select(vec![0, 7, 8, 0x0a00_0001, 0x0a00_0002, 0x0b00_0000, u32::MAX])
                .prop_map(Address::V4),
            proptest::sample::select(vec![0, 1, 2, 0x2001_0db8 << 96, 0x2001_0db9 << 96, u128::MAX])
                .prop_map(Address::V6),
        ]
        .prop_map(Value::Address)
        .boxed(),
        Field::Iifname | Field::Payload => proptest::sample::select(vec!["lo", "eth0", "wg", "other"])
            .prop_map(|text| Value::Bytes(text.as_bytes()))
            .boxed(),
        Field::Protocol | Field::TcpFlags => number(256),
        _ => number(u64::MAX),
    };
    prop_oneof![8 => value, 2 => Just(Value::Absent), 1 => Just(Value::Unknown(UNKNOWN))].boxed()
}

fn a_packet() -> impl Strategy<Value = Vec<Value<'static>>> {
    FIELDS.map(a_value).to_vec()
}

fn field_of(packet: &[Value<'static>]) -> impl Fn(Field) -> Value<'static> {
    |field| {
        packet[FIELDS
            .iter()
            .position(|other| *other == field)
            .expect("only fields of the plan are read")]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_possible_is_left_out(plan in a_plan(), packets in proptest::collection::vec(a_packet(), 8)) {
        let every_dimension = Index::assemble(&plan, |dimensions, _| dimensions);
        let index = Index::build(&plan, |_| None);
        for packet in packets {
            holds_against_naive(&plan, &every_dimension, &field_of(&packet));
            holds_against_naive(&plan, &index, &field_of(&packet));
        }
    }
}

fn number(field: Field, low: u64, high: u64) -> Condition {
    Condition::Field(field, 0, Test::Ranges(ranges(&[(low, high)])))
}

fn all(conditions: impl IntoIterator<Item = Condition>) -> Condition {
    Condition::All(conditions.into_iter().collect())
}

#[test]
fn a_hundred_thousand_rules_leave_the_few_that_can_match() {
    let ports = (0..100_000u64).map(|i| {
        let length = number(Field::Length, i, i);
        let port = number(Field::Dport, i % 60_000, i % 60_000);
        rule(0, if i % 10_000 == 0 { port } else { all([port, length]) })
    });
    let plan = plan(ports.collect());
    let index = Index::build(&plan, |_| None);
    let packet = |length, dport| {
        move |field| match field {
            Field::Dport => Value::Number(dport),
            Field::Length => Value::Number(length),
            other => panic!("nobody looks at {other:?}"),
        }
    };
    let mut scratch = index.scratch();
    let rows: [(u64, u64, &[usize]); 6] = [
        (1, 1, &[1]),
        (1, 2, &[]),
        (99_999, 39_999, &[99_999]),
        (5, 10_000, &[10_000, 70_000]),
        (70_000, 10_000, &[10_000, 70_000]),
        (3, 59_999, &[]),
    ];
    for (length, dport, expected) in rows {
        assert_eq!(
            candidates(&index, &packet(length, dport), &mut scratch),
            expected,
            "length {length}, port {dport}"
        );
    }
    index.look_up(packet(5, 10_000), &mut scratch);
    let from = [0, 10_000, 10_001, 70_000, 70_001, 99_999, 100_000];
    let next = from.map(|from| index.next(&mut scratch, from));
    assert_eq!(
        next,
        [Some(10_000), Some(10_000), Some(70_000), Some(70_000), None, None, None]
    );
}

#[test]
fn once_the_payload_is_searched_rules_whose_literals_are_not_there_are_no_candidates() {
    let contains = |literal: usize| Condition::Field(Field::Payload, 0, Test::Contains([b'x'].into(), Some(literal)));
    let either = Condition::Any([contains(1), contains(2)].into());
    let mut rules: Vec<_> = (0..1_000).map(|i| rule(0, contains(i))).collect();
    rules.extend([
        rule(0, contains(1)),                                    // 1,000: has a child
        rule(1, number(Field::Dport, 1, 1)),                     // 1,001: of its parent
        rule(0, all([either, number(Field::Dport, 1, 1)])),      // 1,002: needs 1 or 2
        rule(0, all([contains(5), number(Field::Dport, 1, 1)])), // 1,003
        rule(0, Condition::Not(Box::new(contains(1)))),          // 1,004
    ]);
    let plan = plan(rules);
    let needs = |test: &Test| match test {
        Test::Contains(_, literal) => literal.map(|literal| vec![literal]),
        _ => None,
    };
    let index = Index::build(&plan, needs);
    let mut scratch = index.scratch();
    let value_of = |field| match field {
        Field::Dport => Value::Number(1),
        other => panic!("nobody looks at {other:?}"),
    };
    let rows: [(&[&[u8]], &[usize]); 3] = [
        (&[], &[1_000, 1_001, 1_004]),
        (&[b"5"], &[5, 1_000, 1_001, 1_003, 1_004]),
        (&[b"2", b"999"], &[2, 999, 1_000, 1_001, 1_002, 1_004]),
    ];
    let searcher = searcher_of_numbers(1_000);
    assert_eq!(index.structure().searched, 1_002);
    for (literals, expected) in rows {
        index.look_up(value_of, &mut scratch);
        assert_eq!(index.next(&mut scratch, 0), Some(0));
        index.keep_awake(&mut scratch, || None::<&Found>);
        assert_eq!(index.next(&mut scratch, 1), Some(1));
        let mut found = searcher.found();
        searcher.find(&[b"[", &literals.join(&b"]["[..])[..], b"]"].concat(), &mut found);
        index.keep_awake(&mut scratch, || Some(&found));
        let left = std::iter::successors(index.next(&mut scratch, 0), |rule| index.next(&mut scratch, rule + 1));
        assert_eq!(left.collect::<Vec<_>>(), expected, "{literals:?}");
    }
}

/// Seeks "[0]", "[1]" and so on.
fn searcher_of_numbers(count: usize) -> Searcher {
    let literals = (0..count).map(|i| format!("[{i}]").into_bytes().into());
    Searcher::build(&Plan {
        literals: literals.collect(),
        ..plan(Vec::new())
    })
    .unwrap()
}

#[test]
fn children_have_their_ancestors_demands() {
    let plan = plan(vec![
        rule(0, number(Field::Dport, 53, 53)),
        rule(1, number(Field::Length, 0, 100)),
        rule(2, all([])),
        rule(1, number(Field::Dport, 54, 54)),
        rule(0, all([])),
    ]);
    let index = Index::assemble(&plan, |dimensions, _| dimensions);
    let rows: [(u64, u64, &[usize]); 3] = [(53, 50, &[0, 1, 2, 4]), (53, 200, &[0, 4]), (54, 50, &[4])];
    for (dport, length, expected) in rows {
        let packet = |field| Value::Number(if field == Field::Dport { dport } else { length });
        assert_eq!(
            candidates(&index, &packet, &mut index.scratch()),
            expected,
            "port {dport}, length {length}"
        );
    }
}

#[test]
fn what_is_unknown_rules_nothing_out() {
    let plan = plan(vec![
        rule(0, number(Field::Dport, 53, 53)),
        rule(0, number(Field::Protocol, 6, 6)),
    ]);
    let index = Index::assemble(&plan, |dimensions, _| dimensions);
    let mut scratch = index.scratch();
    let packet = |field| {
        if field == Field::Dport {
            Value::Unknown(UNKNOWN)
        } else {
            Value::Number(17)
        }
    };
    assert_eq!(candidates(&index, &packet, &mut scratch), [0]);
    assert!(!scratch.all_known());
    assert_eq!(candidates(&index, &|_| Value::Absent, &mut scratch), [0; 0]);
    assert_eq!(candidates(&index, &|_| Value::Number(6), &mut scratch), [1]);
    assert!(scratch.all_known());
}

#[test]
fn what_is_not_indexed_is_left_to_ask() {
    let dynamic = Condition::Field(Field::Saddr, 0, Test::Set(1));
    let hour = number(Field::Hour, 8, 17);
    let inner = Condition::Field(Field::Dport, 1, Test::Ranges(ranges(&[(1, 1)])));
    let prefix = Condition::Field(Field::Iifname, 0, Test::StartsWith(Box::from(&b"eth"[..])));
    let wide_mask = Condition::Field(Field::Dport, 0, Test::Masked { value: 1, mask: 1 });
    let left = [dynamic, hour, inner, prefix, wide_mask];
    let known = number(Field::Dport, 22, 22);
    let nested = all([all(left[..2].to_vec()), known, all(left[2..].to_vec())]);
    let index = Index::assemble(&plan(vec![rule(0, nested)]), |dimensions, _| dimensions);
    assert_eq!(index.residual(0), left);
    assert_eq!(index.fields().collect::<Vec<_>>(), [Field::Dport]);
}

#[test]
fn a_mark_that_rules_change_is_no_dimension() {
    let rules = || vec![rule(0, number(Field::Mark, 1, 1)), rule(0, number(Field::Mark, 2, 2))];
    let fields = |plan: &Plan| Index::build(plan, |_| None).fields().collect::<Vec<_>>();
    let mut plan = plan(rules());
    assert_eq!(fields(&plan), [Field::Mark]);
    plan.rules[1].actions.push(Action::Mark { value: 1, mask: 1 });
    assert_eq!(fields(&plan), []);
}

#[test]
fn the_structure_is_told() {
    let rules = (0..1_000).map(|i| rule(0, all([number(Field::Dport, i, i), number(Field::Protocol, 6, 6)])));
    let structure = Index::build(&plan(rules.collect()), |_| None).structure();
    let dport = structure.dimensions[0].clone();
    assert_eq!(
        (dport.source, dport.classes, dport.vectors),
        (Source::values(Field::Dport), 1_002, 1_001)
    );
    assert_eq!(
        (structure.rules, structure.residual),
        (1_000, vec![Source::values(Field::Protocol)])
    );
}

#[test]
fn a_long_list_is_asked_once_whether_it_holds_the_address() {
    let rules = (0..100).map(|i| {
        let test = if i % 2 == 0 {
            Test::Addresses(LONG)
        } else {
            Test::Not(Box::new(Test::Addresses(LONG)))
        };
        rule(
            0,
            all([Condition::Field(Field::Saddr, 0, test), number(Field::Dport, i, 99)]),
        )
    });
    let index = Index::build(&plan(rules.collect()), |_| None);
    let fields = index.structure().dimensions.into_iter();
    let fields: Vec<String> = fields.map(|dimension| dimension.source.to_string()).collect();
    assert_eq!(fields, ["saddr in a long list", "dport"]);
    assert_eq!(index.structure().dimensions[0].classes, 3, "no, yes, and no address");
    let packet = |saddr| {
        move |field| match field {
            Field::Saddr => Value::Address(Address::V4(saddr)),
            _ => Value::Number(2),
        }
    };
    let mut scratch = index.scratch();
    assert_eq!(candidates(&index, &packet(7), &mut scratch), [1]);
    assert_eq!(candidates(&index, &packet(8), &mut scratch), [0, 2]);
    assert_eq!(index.residual(0), []);
}

#[test]
fn what_would_take_too_much_memory_is_left_to_the_rules() {
    // Each rule's range begins and ends among those of all others, and lies in half of the classes.
    let wide = (0..40_000u64).map(|i| rule(0, number(Field::Length, i * 11, i * 11 + 440_000)));
    let narrow = (0..40_000u64).map(|i| rule(0, number(Field::Length, i * 7, i * 7)));
    let rules: Vec<_> = wide.chain(narrow).collect();
    let plan = plan(rules);
    let index = Index::build(&plan, |_| None);
    assert!(index.structure().bytes < 128 << 20, "{:?}", index.structure());
    for length in [0, 7, 440_000, 500_000] {
        holds_against_naive(&plan, &index, &|field| {
            if field == Field::Hook {
                Value::Number(1)
            } else {
                Value::Number(length)
            }
        });
    }
}

#[test]
fn what_is_left_to_the_rules_takes_its_ancestors_along() {
    // More classes than fit: the exceptions, which lie in all of them, are left before the rule around them.
    let singles = (0..70_000u32).map(|i| from(2 + i as usize));
    let inside = (0..2_000).map(|i| rule(1, not_from(70_002 + i % 50)));
    let rules = singles.map(|one| rule(0, one)).chain([rule(0, from(0))]).chain(inside);
    let mut plan = plan(rules.collect());
    let single = |i: u32| address(&[(0x0a00_0000 + 4 * i, 0x0a00_0000 + 4 * i)]);
    plan.addresses = [(0x0a00_0000, 0x0aff_ffff), (0, 0)].map(|pair| address(&[pair])).into();
    plan.addresses.extend((0..70_050).map(single));
    let every_dimension = Index::assemble(&plan, |dimensions, _| dimensions);
    assert!(!every_dimension.residual(71_000).is_empty(), "some are left");
    for saddr in [0x0a00_0000, 0x0a00_0004, 0x0aff_ffff, 0xcb00_7105] {
        holds_against_naive(&plan, &every_dimension, &|field| match field {
            Field::Saddr => Value::Address(Address::V4(saddr)),
            _ => Value::Number(1),
        });
    }
}

#[test]
fn exceptions_from_a_long_list_for_many_rules_are_left_to_the_rules_in_time() {
    let list: Vec<(u32, u32)> = (0..100_000).map(|i| (2 * i, 2 * i)).collect();
    let mut plan = plan(
        std::iter::once(rule(0, from(0)))
            .chain((0..60).map(|i| rule(1, not_from(1 + i))))
            .collect(),
    );
    plan.addresses = std::iter::once(address(&list))
        .chain((0..60).map(|i| address(&[(4 * i, 4 * i)])))
        .collect();
    let index = Index::build(&plan, |_| None);
    for saddr in [0, 1, 2, 4, 8, 120, 236, 240, 199_998, 200_000] {
        holds_against_naive(&plan, &index, &|field| match field {
            Field::Saddr => Value::Address(Address::V4(saddr)),
            _ => Value::Number(1),
        });
    }
}

fn address(v4: &[(u32, u32)]) -> Arc<Addresses> {
    Arc::new(Addresses {
        v4: Ranges::from_pairs(v4.iter().copied()).unwrap(),
        v6: Ranges::from_pairs([]).unwrap(),
    })
}

fn from(addresses: usize) -> Condition {
    Condition::Field(Field::Saddr, 0, Test::Addresses(addresses))
}

fn not_from(addresses: usize) -> Condition {
    Condition::Field(Field::Saddr, 0, Test::Not(Box::new(Test::Addresses(addresses))))
}
