//! What sets do while packets flow and time passes.

use super::*;
use crate::state::limits::tests::steps;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::IpAddr;

const S: i64 = 1_000_000_000;
const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";

fn address(text: &str) -> Address {
    match text.parse().expect("an address") {
        IpAddr::V4(address) => Address::V4(address.to_bits()),
        IpAddr::V6(address) => Address::V6(address.to_bits()),
    }
}

fn at(text: &str) -> ElementRef<'static> {
    ElementRef::Address(address(text))
}

/// Of addresses; the file has 203.0.113.0/24 and `2001:db8:f::/48`.
fn live(size: usize, timeout: Option<i64>) -> LiveSet {
    let v4 = Ranges::from_pairs([(0xCB00_7100, 0xCB00_71FF)]).expect("ranges");
    let v6 = Ranges::from_pairs([(0x2001_0DB8_000F << 80, (0x2001_0DB8_0010 << 80) - 1)]).expect("ranges");
    LiveSet::new(Elements::Addresses(Arc::new(Addresses { v4, v6 })), true, timeout, size)
}

fn texts(strings: &[&str]) -> LiveSet {
    let strings = strings.iter().map(|text| text.as_bytes().into()).collect();
    LiveSet::new(Elements::Strings(strings), true, None, 10)
}

fn tally(elements: usize, added: u64, refused: u64) -> SetTally {
    SetTally {
        elements,
        added,
        refused,
    }
}

fn counted(set: &LiveSet, now: i64) -> SetTally {
    set.tally(now).expect("a dynamic set")
}

#[test]
fn an_element_is_gone_at_the_very_nanosecond() {
    let found = live(10, None);
    assert_eq!(found.add(at(A), Some(1_500_000_000), 0), Added::Done);
    assert!(found.contains(at(A), 1_499_999_999));
    assert!(!found.contains(at(A), 1_500_000_000));
}

/// It must not hold its place in a full set until the longer one is over.
#[test]
fn a_shorter_time_counts_at_once() {
    let found = live(1, None);
    found.add(at(A), Some(3600 * S), 0);
    found.add(at(A), Some(S), 0);
    assert_eq!(found.add(at(B), None, S - 1), Added::Refused);
    assert_eq!(found.add(at(B), None, 2 * S), Added::Done);
    assert!(found.contains(at(B), 2 * S));
    assert_eq!(counted(&found, 2 * S), tally(1, 3, 1));
}

#[test]
fn for_ever_after_a_time_and_a_time_after_for_ever() {
    let found = live(10, None);
    for (text, timeout) in [(A, Some(S)), (A, None), (B, None), (B, Some(S))] {
        found.add(at(text), timeout, 0);
    }
    assert_eq!([A, B].map(|text| found.contains(at(text), 9 * S)), [true, false]);
    assert_eq!(counted(&found, 9 * S), tally(1, 4, 0));
}

#[test]
fn deleted_and_added_again() {
    let found = live(1, None);
    for seconds in [50, 5, 50, 5] {
        found.add(at(A), Some(seconds * S), 0);
        assert!(found.delete(at(A), 0));
        assert!(!found.contains(at(A), 0));
        assert!(!found.delete(at(A), 0));
    }
    found.add(at(A), Some(5 * S), 0);
    assert!(found.contains(at(A), 4 * S));
    assert_eq!(counted(&found, 6 * S), tally(0, 5, 0));
}

#[test]
fn a_flood_of_elements_stops_at_the_size() {
    let found = live(100, Some(10 * S));
    for number in 0..10_000 {
        found.add(ElementRef::Address(Address::V4(number)), None, i64::from(number));
    }
    assert_eq!(counted(&found, 10_000), tally(100, 100, 9_900));
    assert_eq!(counted(&found, 10 * S + 99), tally(0, 100, 9_900));
}

/// Its old place is gone with its time.
#[test]
fn what_has_timed_out_is_as_good_as_new_to_a_smaller_size() {
    let old = live(10_000, None);
    for number in 0..10_000 {
        let timeout = (number >= 2_000).then_some(S);
        old.add(ElementRef::Address(Address::V4(number)), timeout, 0);
    }
    let new = live(1_000, None).inheriting(&old);
    for number in 9_000..9_004 {
        let again = ElementRef::Address(Address::V4(number));
        assert_eq!(
            (new.add(again, None, 2 * S), new.contains(again, 2 * S)),
            (Added::Refused, false)
        );
    }
    assert_eq!(counted(&new, 2 * S).elements, 2_000);
}

#[test]
fn what_the_file_has_stays_and_takes_no_place() {
    let found = live(1, Some(S));
    for text in ["203.0.113.7", "2001:db8:f::1"] {
        assert_eq!(found.add(at(text), None, 0), Added::InFile);
        assert!(!found.delete(at(text), 0));
        assert!(found.contains(at(text), 9 * S));
    }
    assert_eq!(counted(&found, 0), tally(0, 0, 0));
}

/// The same 32 bits, mapped or not, are two addresses.
#[test]
fn families_are_apart() {
    let found = live(10, None);
    found.add(at("192.0.2.1"), None, 0);
    let looks = ["192.0.2.1", "::ffff:192.0.2.1", "::192.0.2.1"].map(|text| found.contains(at(text), 0));
    assert_eq!(looks, [true, false, false]);
}

#[test]
fn numbers() {
    let ranges = Ranges::from_pairs([(0, 3), (7, 7)]).expect("ranges");
    let found = LiveSet::new(Elements::Ranges(ranges), true, None, 10);
    found.add(ElementRef::Number(5), None, 0);
    let here: Vec<u64> = (0..10)
        .filter(|number| found.contains(ElementRef::Number(*number), 0))
        .collect();
    assert_eq!(here, [0, 1, 2, 3, 5, 7]);
}

#[test]
fn a_long_text_is_known_by_its_digest() {
    let found = texts(&["lo"]);
    let long = vec![b'x'; 60_000];
    found.add(ElementRef::Bytes(&long), None, 0);
    let looks = [&b"lo"[..], &long, &long[1..], b""].map(|text| found.contains(ElementRef::Bytes(text), 0));
    assert_eq!(looks, [true, true, false, false]);
    assert!(matches!(found.list(0, 0, 9)[..], [(Element::Digest(_), None)]));
}

#[test]
fn a_set_that_is_not_dynamic_or_of_another_type_takes_nothing() {
    let fixed = LiveSet::new(Elements::Ranges(Ranges::from_pairs([]).expect("none")), false, None, 10);
    assert_eq!(fixed.add(ElementRef::Number(5), None, 0), Added::Unfit);
    assert_eq!(
        (fixed.tally(0), fixed.contains(ElementRef::Number(5), 0)),
        (None, false)
    );
    assert_eq!(texts(&[]).add(at(A), None, 0), Added::Unfit);
    assert_eq!(live(10, None).add(ElementRef::Bytes(b"x"), None, 0), Added::Unfit);
}

#[test]
fn a_list_has_pages_and_the_time_that_is_left() {
    let found = live(1000, None);
    for number in 0..500_u32 {
        let timeout = (number > 0).then(|| i64::from(number) * S);
        found.add(ElementRef::Address(Address::V4(number)), timeout, 0);
    }
    let pages = (0..5).flat_map(|page| found.list(100 * S, page * 100, 100));
    let mut all: Vec<(u32, Option<i64>)> = pages
        .map(|(element, left)| match element {
            Element::Address(Address::V4(number)) => (number, left),
            other => panic!("{other:?}"),
        })
        .collect();
    all.sort_unstable();
    let expected = (101..500).map(|number| (number, Some(i64::from(number) * S - 100 * S)));
    assert!(all.into_iter().eq([(0, None)].into_iter().chain(expected)));
    assert!(found.list(0, 500, 100).is_empty());
}

#[test]
fn another_policy_has_what_was_added() {
    let (old, other_type) = (live(10, None), texts(&[]));
    old.add(at(A), None, 0);
    let new = live(1, Some(S)).inheriting(&old);
    assert!(new.contains(at(A), 0));
    assert_eq!(new.add(at(B), None, 0), Added::Refused);
    assert_eq!(old.add(at(B), None, 0), Added::Done);
    assert_eq!((new.contains(at(B), 0), counted(&new, 0)), (true, tally(2, 2, 1)));
    new.flush();
    assert_eq!((old.contains(at(A), 0), counted(&old, 0)), (false, tally(0, 2, 1)));
    assert_eq!(counted(&live(1, None).inheriting(&other_type), 0), tally(0, 0, 0));
}

/// Everybody adds, deletes, looks, purges; then everything is where it must be and the counts say so.
#[test]
fn threads_add_up() {
    const EACH: u32 = 20_000;
    let found = live(1 << 20, None);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let found = &found;
            scope.spawn(move || {
                let own = |i: u32| ElementRef::Address(Address::V4(thread << 20 | i));
                let common = |i: u32| ElementRef::Address(Address::V6(u128::from(i % 100)));
                for i in 0..EACH {
                    let now = i64::from(i);
                    // Of its own it keeps a third for ever, deletes a third, and a third is due in the end.
                    let timeout = (i % 3 == 2).then(|| i64::from(EACH) - now);
                    assert_eq!(found.add(own(i), timeout, now), Added::Done);
                    assert!(found.contains(own(i), now));
                    assert!(i % 3 != 1 || found.delete(own(i), now));
                    found.add(common(i), None, now);
                    found.delete(common(i), now);
                    if i % 1000 == 0 {
                        assert!(counted(found, now).elements > 0);
                    }
                }
            });
        }
    });
    let kept = 4 * EACH.div_ceil(3);
    assert_eq!(
        counted(&found, i64::from(EACH)),
        tally(kept as usize, 8 * u64::from(EACH), 0)
    );
    for (thread, i) in (0..4).flat_map(|thread| (0..EACH).map(move |i| (thread, i))) {
        let element = ElementRef::Address(Address::V4(thread << 20 | i));
        assert_eq!(found.contains(element, i64::from(EACH)), i % 3 == 0, "{thread} {i}");
    }
    assert_eq!(found.list(i64::from(EACH), 0, usize::MAX).len(), kept as usize);
}

/// Four threads want the same few places: all are taken, none twice, whoever else wanted one is refused.
#[test]
fn threads_share_a_size() {
    let found = live(100, Some(S));
    for round in 0..50_i64 {
        let now = round * S;
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let found = &found;
                scope.spawn(move || {
                    for i in 0..100 {
                        found.add(ElementRef::Address(Address::V4(thread * 50 + i)), None, now);
                    }
                });
            }
        });
        assert_eq!(counted(&found, now).elements, 100);
        assert_eq!(found.list(now, 0, 1000).len(), 100);
    }
}

const ELEMENTS: [&str; 6] = [
    "192.0.2.1",
    "192.0.2.2",
    "192.0.2.3",
    "2001:db8::1",
    "203.0.113.7",
    "2001:db8:f::9",
];

proptest! {
    #[test]
    fn like_a_map(
        timeout in prop::sample::select(vec![None, Some(2 * S)]),
        size in 1..5_usize,
        events in prop::collection::vec(
            (
                steps(),
                prop::bool::weighted(0.7),
                0..ELEMENTS.len(),
                prop::sample::select(vec![None, Some(S / 2), Some(S), Some(3 * S), Some(1000 * S)]),
            ),
            0..100,
        ),
    ) {
        let (found, mut plain, mut now) = (live(size, timeout), HashMap::<&str, Option<i64>>::new(), 0);
        let (mut added, mut refused) = (0, 0);
        for (step, adds, which, stays) in events {
            now += step;
            plain.retain(|_, due| due.is_none_or(|due| now < due));
            let element = ELEMENTS[which];
            let expected = if which >= 4 {
                Added::InFile
            } else if plain.contains_key(element) || plain.len() < size {
                Added::Done
            } else {
                Added::Refused
            };
            if adds {
                prop_assert_eq!(found.add(at(element), stays, now), expected);
                added += u64::from(expected == Added::Done);
                refused += u64::from(expected == Added::Refused);
                if expected == Added::Done {
                    plain.insert(element, stays.or(timeout).map(|stays| now + stays));
                }
            } else {
                prop_assert_eq!(found.delete(at(element), now), plain.remove(element).is_some());
            }
            for (which, element) in ELEMENTS.iter().enumerate() {
                prop_assert_eq!(found.contains(at(element), now), which >= 4 || plain.contains_key(element));
            }
            prop_assert_eq!(counted(&found, now), tally(plain.len(), added, refused));
            let left = |due: Option<i64>| due.map(|due| due - now);
            let mut expected: Vec<_> = plain.iter().map(|(text, due)| (address(text).to_string(), left(*due))).collect();
            let mut listed: Vec<_> = found.list(now, 0, 9).into_iter().map(|(element, left)| match element {
                Element::Address(address) => (address.to_string(), left),
                other => (format!("{other:?}"), left),
            }).collect();
            expected.sort();
            listed.sort();
            prop_assert_eq!(listed, expected);
        }
    }
}
