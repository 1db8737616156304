//! The planner against a model of the kernel's queue: whatever arrives, is lost, waits, cannot be read, is answered in
//! any order or cannot be sent, no packet gets a verdict that was not decided for it, and every decided one gets its.

mod model;

use model::{Event, Expected, QUEUE, Scene};
use proptest::prelude::*;
use qfilter_queue::Final;
use qfilter_queue::verdicts::Planner;

fn finals() -> impl Strategy<Value = Final> {
    prop_oneof![
        6 => Just(Final::ACCEPT),
        2 => Just(Final::DROP),
        1 => Just(Final::ACCEPT.with_mark(7)),
        1 => Just(Final::queue(2)),
    ]
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => finals().prop_map(Event::Arrive),
        2 => Just(Event::ArriveAndWait),
        1 => finals().prop_map(Event::ArriveUnreadable),
        1 => (1..5_u32).prop_map(Event::Lose),
        3 => (any::<usize>(), finals()).prop_map(|(which, decided)| Event::Answer(which, decided)),
        4 => prop::bool::weighted(0.1).prop_map(|fails| Event::Flush { fails }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_packet_gets_what_was_not_decided_for_it_and_every_one_gets_its_own(
        start in prop_oneof![Just(0_u32), Just(u32::MAX - 40), Just(0x7FFF_FFF0), any::<u32>()],
        events in prop::collection::vec(events(), 0..120),
    ) {
        let mut scene = Scene::after(start);
        for event in &events {
            scene.run(event);
        }
        prop_assert_eq!(scene.end(), []);
    }
}

fn messages_of(events: impl IntoIterator<Item = Event>) -> usize {
    let mut scene = Scene::after(0);
    for event in events {
        scene.run(&event);
    }
    scene.flush(false);
    scene.kernel.messages
}

#[test]
fn a_long_run_of_equal_verdicts_is_one_message() {
    let accepts = |count| std::iter::repeat_n(Event::Arrive(Final::ACCEPT), count);
    let wait = || std::iter::once(Event::ArriveAndWait);
    assert_eq!(messages_of(accepts(10_000)), 1);
    assert_eq!(
        messages_of(accepts(100).chain([Event::Arrive(Final::DROP)]).chain(accepts(100))),
        3
    );
    assert_eq!(
        messages_of(accepts(100).chain(wait()).chain(accepts(5))),
        6,
        "none passes what waits"
    );
    assert_eq!(
        messages_of(accepts(100).chain([Event::Lose(7)]).chain(accepts(100))),
        3,
        "a gap is closed by a drop"
    );
    let marked = std::iter::repeat_n(Event::Arrive(Final::ACCEPT.with_mark(1)), 50);
    assert_eq!(messages_of(marked), 1, "one mark for all");
}

#[test]
fn after_the_last_answer_runs_are_one_message_again() {
    let mut scene = Scene::after(u32::MAX - 3);
    scene.run(&Event::ArriveAndWait);
    for _ in 0..10 {
        scene.run(&Event::Arrive(Final::ACCEPT));
    }
    scene.flush(false);
    let (id, place) = scene.waiting.remove(0);
    scene.kernel.expect(id, Expected::Decided(Final::DROP));
    scene.planner.decide(place, Final::DROP);
    let before = scene.kernel.messages;
    for _ in 0..10 {
        scene.run(&Event::Arrive(Final::ACCEPT));
    }
    scene.flush(false);
    assert_eq!((scene.kernel.messages - before, scene.kernel.holds.len()), (2, 0));
}

#[test]
fn lost_packets_are_counted_across_the_wrap_and_unreadable_ones_are_not_lost() {
    let mut planner = Planner::new(QUEUE);
    assert_eq!(planner.arrive(1).1, 0);
    assert_eq!(planner.arrive(5).1, 3);
    assert_eq!(planner.arrive(u32::MAX).1, u64::from(u32::MAX) - 6);
    assert_eq!(planner.arrive(1).1, 1);
    planner.arrive_unreadable(Final::ACCEPT);
    assert_eq!(planner.arrive(3).1, 0);
    planner.arrive_unreadable(Final::ACCEPT);
    assert_eq!(planner.arrive(7).1, 2);
}

#[test]
fn a_message_that_came_without_its_id_gets_its_outcome_where_nothing_else_was_lost() {
    let mut scene = Scene::after(0);
    let both = [
        Event::ArriveUnreadable(Final::ACCEPT),
        Event::ArriveUnreadable(Final::ACCEPT),
    ];
    for event in both
        .into_iter()
        .chain([Event::Arrive(Final::ACCEPT), Event::Flush { fails: false }])
    {
        scene.run(&event);
    }
    assert_eq!(
        (scene.kernel.messages, scene.kernel.holds.len()),
        (1, 0),
        "the three are one run"
    );
}
