//! A model of the kernel's queue, and a planner in front of it. `native/fuzz` has it too.

use std::collections::BTreeMap;

use qfilter_queue::Final;
use qfilter_queue::netlink::{attributes, messages};
use qfilter_queue::verdicts::{Place, Planner};

const VERDICT: u16 = 0x301;
const VERDICT_BATCH: u16 = 0x303;
pub const QUEUE: u16 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
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
pub struct Kernel {
    pub holds: Vec<(u32, Expected)>,
    pub messages: usize,
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

    pub fn expect(&mut self, id: u32, expected: Expected) {
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
pub enum Event {
    Arrive(Final),
    ArriveAndWait,
    ArriveUnreadable(Final),
    Lose(u32),
    /// One of those that wait, counted around.
    Answer(usize, Final),
    Flush {
        fails: bool,
    },
}

/// A kernel, a planner, and what the loop between them knows.
pub struct Scene {
    pub kernel: Kernel,
    pub planner: Planner,
    id: u32,
    pub waiting: Vec<(u32, Place)>,
}

impl Scene {
    /// A queue whose next packet has the id after that one.
    pub fn after(id: u32) -> Self {
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

    pub fn run(&mut self, event: &Event) {
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
                let (id, place) = self.waiting.remove(which % self.waiting.len());
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

    pub fn flush(&mut self, mut fails: bool) {
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
    pub fn end(mut self) -> Vec<(u32, Expected)> {
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
