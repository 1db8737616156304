//! The planner against a model of the kernel's queue: whatever arrives, is lost, waits, cannot be read, is answered in
//! any order or cannot be sent, no packet gets a verdict that was not decided for it, and every decided one gets its.

use std::collections::BTreeMap;

use proptest::prelude::*;
use qfilter_queue::Final;
use qfilter_queue::netlink::{attributes, messages};
use qfilter_queue::verdicts::{Place, Planner};

const VERDICT: u16 = 0x301;
const VERDICT_BATCH: u16 = 0x303;
const QUEUE: u16 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The judge has not decided yet.
    Undecided,
    Decided(Final),
    /// Its message came without an id that could be read; this is what was decided for it.
    Unreadable(Final),
    /// Its verdict was written, but could not be sent: it may have it yet, or be dropped.
    Unsent(Final),
}

/// `nfqnl_recv_verdict` and `nfqnl_recv_verdict_batch`: the packets that the kernel holds, oldest first.
#[derive(Default)]
struct Kernel {
    holds: Vec<(u32, Expected)>,
    messages: usize,
}

impl Kernel {
    fn receive(&mut self, bytes: &[u8]) {
        for message in messages(bytes) {
            let message = message.expect("a message");
            assert_eq!(message.body[..4], [0, 0, 0, QUEUE as u8]);
            let mut found: BTreeMap<u16, &[u8]> = BTreeMap::new();
            for attribute in attributes(&message.body[4..]) {
                let (kind, value) = attribute.expect("an attribute");
                found.insert(kind, value);
            }
            let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
            let decided = Final {
                value: number(&found[&2][..4]),
                mark: found.get(&3).map(|mark| number(mark)),
            };
            let id = number(&found[&2][4..]);
            self.messages += 1;
            match message.kind {
                VERDICT => self.decide(decided, |other| other == id),
                VERDICT_BATCH => {
                    let ids = self.holds.iter().map(|(id, _)| *id);
                    let settled: Vec<u32> = ids.take_while(|other| !is_after(*other, id)).collect();
                    self.decide(decided, |other| settled.contains(&other));
                }
                other => panic!("message type {other:#x}"),
            }
        }
    }

    fn decide(&mut self, decided: Final, is_meant: impl Fn(u32) -> bool) {
        self.holds.retain(|(id, expected)| {
            if !is_meant(*id) {
                return true;
            }
            match expected {
                Expected::Decided(own) => assert_eq!(decided, *own, "packet {id}"),
                Expected::Undecided => panic!("packet {id}, undecided, got {decided:?}"),
                Expected::Unreadable(own) | Expected::Unsent(own) => {
                    assert!(
                        decided == *own || decided == Final::DROP,
                        "packet {id}: {decided:?}, neither {own:?} nor drop"
                    );
                }
            }
            false
        });
    }

    fn expect(&mut self, id: u32, expected: Expected) {
        let row = self
            .holds
            .iter_mut()
            .find(|(held, _)| *held == id)
            .expect("the kernel holds it");
        row.1 = expected;
    }
}

/// `nfq_id_after`.
fn is_after(id: u32, last: u32) -> bool {
    id.wrapping_sub(last).cast_signed() > 0
}

#[derive(Clone, Debug)]
enum Event {
    Arrive(Final),
    ArriveAndWait,
    ArriveUnreadable(Final),
    Lose(u32),
    Answer(prop::sample::Index, Final),
    Flush { fails: bool },
}

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
        3 => (any::<prop::sample::Index>(), finals()).prop_map(|(which, decided)| Event::Answer(which, decided)),
        4 => prop::bool::weighted(0.1).prop_map(|fails| Event::Flush { fails }),
    ]
}

/// A kernel, a planner, and what the loop between them knows.
struct Scene {
    kernel: Kernel,
    planner: Planner,
    id: u32,
    waiting: Vec<(u32, Place)>,
}

impl Scene {
    /// A queue whose next packet has the id after that one.
    fn after(id: u32) -> Self {
        let mut scene = Self {
            kernel: Kernel::default(),
            planner: Planner::new(QUEUE),
            id,
            waiting: Vec::new(),
        };
        if id > 0 {
            // Everything before is lost: ids begin where the test wants them.
            scene.id = id.wrapping_sub(1);
            scene.run(&Event::Arrive(Final::DROP));
            scene.run(&Event::Flush { fails: false });
        }
        scene
    }

    fn run(&mut self, event: &Event) {
        match event {
            Event::Arrive(decided) => {
                let place = self.arrive(Expected::Decided(*decided));
                self.planner.decide(place, *decided);
            }
            Event::ArriveAndWait => {
                let place = self.arrive(Expected::Undecided);
                self.planner.wait(place);
                self.waiting.push((self.id, place));
            }
            Event::ArriveUnreadable(decided) => {
                self.id = self.id.wrapping_add(1);
                self.kernel.holds.push((self.id, Expected::Unreadable(*decided)));
                self.planner.arrive_unreadable(*decided);
            }
            Event::Lose(count) => self.id = self.id.wrapping_add(*count),
            Event::Answer(which, decided) if !self.waiting.is_empty() => {
                let (id, place) = self.waiting.remove(which.index(self.waiting.len()));
                self.kernel.expect(id, Expected::Decided(*decided));
                self.planner.decide(place, *decided);
            }
            Event::Answer(..) => {}
            Event::Flush { fails } => self.flush(*fails),
        }
    }

    fn arrive(&mut self, expected: Expected) -> Place {
        self.id = self.id.wrapping_add(1);
        self.kernel.holds.push((self.id, expected));
        self.planner.arrive(self.id).0
    }

    fn flush(&mut self, mut fails: bool) {
        let Self { kernel, planner, .. } = self;
        planner.flush(|bytes| {
            if fails {
                fails = false;
                for (_, expected) in &mut kernel.holds {
                    if let Expected::Decided(own) = *expected {
                        *expected = Expected::Unsent(own);
                    }
                }
                return false;
            }
            kernel.receive(bytes);
            true
        });
    }

    /// Everything is answered and sent: what is left in the kernel.
    fn end(mut self) -> Vec<(u32, Expected)> {
        for (id, place) in std::mem::take(&mut self.waiting) {
            self.kernel.expect(id, Expected::Decided(Final::DROP));
            self.planner.decide(place, Final::DROP);
        }
        self.flush(false);
        // A packet after the last gap tells that there was one.
        self.run(&Event::Arrive(Final::ACCEPT));
        self.flush(false);
        self.kernel.holds
    }
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
