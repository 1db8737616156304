//! Decided packets to verdict messages. Pure.
//!
//! A batch message decides every packet that the kernel holds up to its id, also those that nobody decided. So one is
//! written only for a run of ids without a gap, when no packet waits with an id up to its last one, and when nothing
//! up to there is in doubt. In doubt are ids that never came and those whose verdict could not be sent: whatever the
//! kernel still holds of them is dropped, by a batch of its own, before any other batch may pass them.

use std::collections::BTreeSet;

use crate::judge::Final;
use crate::netlink::Writer;
use crate::nfqueue::{verdict, verdict_batch};

/// `nlmsg_seq` of verdicts.
pub const DECIDED: u32 = 0;
/// `nlmsg_seq` of batches that drop what is in doubt. The kernel refuses those with ENOENT when it holds no such packet.
pub const DOUBTED: u32 = 1;

/// Bytes of messages in one send; the kernel takes up to `net.core.wmem_default`, 208 KiB.
const SEND_AT: usize = 16 << 10;

/// A packet's id in the order of arrival: 64 bits, which do not wrap. The lower 32 are the kernel's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

impl Place {
    fn id(self) -> u32 {
        self.0 as u32
    }

    fn is_before(self, later: Self) -> bool {
        self.0 + 1 == later.0
    }
}

enum Item {
    Decided(Final),
    Doubt,
}

struct Run {
    first: Place,
    last: Place,
    decided: Final,
}

/// Takes decisions, gives messages. Ids arrive in the kernel's order; decisions of those that wait come in any.
pub struct Planner {
    queue: u16,
    newest: Place,
    unreadable: Option<(u32, Final)>,
    waiting: BTreeSet<Place>,
    items: Vec<(Place, Item)>,
    doubt: Option<Place>,
    run: Option<Run>,
    writer: Writer,
    written: Option<Place>,
}

impl Planner {
    /// For a queue that was just bound: the kernel counts from 1.
    pub fn new(queue: u16) -> Self {
        Self {
            queue,
            newest: Place(1 << 32),
            unreadable: None,
            waiting: BTreeSet::new(),
            items: Vec::new(),
            doubt: None,
            run: None,
            writer: Writer::default(),
            written: None,
        }
    }

    /// The next packet came: its place, and how many were lost before it.
    pub fn arrive(&mut self, id: u32) -> (Place, u64) {
        let missing = id.wrapping_sub(self.newest.id()).wrapping_sub(1);
        let place = Place(self.newest.0 + u64::from(missing) + 1);
        let lost = self.settle_gap(missing, place);
        self.newest = place;
        (place, lost)
    }

    /// Where exactly as many packets are missing as came without an id, they are those; else nobody can tell which.
    fn settle_gap(&mut self, missing: u32, end: Place) -> u64 {
        let (unreadable, decided) = self.unreadable.take().unwrap_or((0, Final::DROP));
        if missing == unreadable {
            self.items
                .extend((self.newest.0 + 1..end.0).map(|place| (Place(place), Item::Decided(decided))));
            return 0;
        }
        if missing > 0 {
            self.items.push((Place(end.0 - 1), Item::Doubt));
        }
        missing.saturating_sub(unreadable).into()
    }

    /// A packet came whose id could not be read: it has the place after the last one, if none was lost there. Where
    /// such packets with different verdicts follow each other, all are dropped.
    pub fn arrive_unreadable(&mut self, decided: Final) {
        let (before, first) = self.unreadable.unwrap_or((0, decided));
        let decided = if first == decided { decided } else { Final::DROP };
        self.unreadable = Some((before.saturating_add(1), decided));
    }

    /// The packet at that place waits: no batch passes it before it is decided.
    pub fn wait(&mut self, place: Place) {
        self.waiting.insert(place);
    }

    /// The verdict of a packet that arrived or waited. Each has one.
    pub fn decide(&mut self, place: Place, decided: Final) {
        self.waiting.remove(&place);
        self.items.push((place, Item::Decided(decided)));
    }

    /// Give `send` the messages for everything that was decided, in one piece unless it is very much.
    ///
    /// `send` says whether they went out. What did not is in doubt from then on.
    pub fn flush(&mut self, mut send: impl FnMut(&[u8]) -> bool) {
        let mut items = std::mem::take(&mut self.items);
        // Only packets that waited are out of order, and of those there are few.
        if !items.is_sorted_by_key(|(place, _)| *place) {
            items.sort_by_key(|(place, _)| *place);
        }
        for (place, item) in items.drain(..) {
            match item {
                Item::Decided(decided) => self.extend(place, decided, &mut send),
                Item::Doubt => {
                    self.end_run(&mut send);
                    self.doubt = self.doubt.max(Some(place));
                }
            }
        }
        self.end_run(&mut send);
        // Once more when a send fails: the next packet may be long in coming.
        for _ in 0..2 {
            self.end_doubt(self.newest, &mut send);
            self.send(&mut send);
        }
        self.items = items;
    }

    fn extend(&mut self, place: Place, decided: Final, send: &mut impl FnMut(&[u8]) -> bool) {
        match &mut self.run {
            Some(run) if run.decided == decided && run.last.is_before(place) => run.last = place,
            _ => {
                self.end_run(send);
                self.run = Some(Run {
                    first: place,
                    last: place,
                    decided,
                });
            }
        }
    }

    fn end_run(&mut self, send: &mut impl FnMut(&[u8]) -> bool) {
        let Some(Run { first, last, decided }) = self.run.take() else {
            return;
        };
        self.end_doubt(first, send);
        if first < last && self.doubt.is_none() && self.none_waits(last) {
            self.batch(DECIDED, last, decided, send);
            return;
        }
        for place in (first.0..=last.0).map(Place) {
            verdict(&mut self.writer, DECIDED, self.queue, place.id(), decided);
            self.wrote(place, send);
        }
    }

    /// Drop what is in doubt, once everything else up to there is decided and written.
    fn end_doubt(&mut self, reached: Place, send: &mut impl FnMut(&[u8]) -> bool) {
        if let Some(place) = self.doubt
            && place <= reached
            && self.none_waits(place)
        {
            self.doubt = None;
            self.batch(DOUBTED, place, Final::DROP, send);
        }
    }

    fn batch(&mut self, sequence: u32, last: Place, decided: Final, send: &mut impl FnMut(&[u8]) -> bool) {
        assert!(
            self.none_waits(last) && self.doubt.is_none(),
            "a batch may not pass what is not decided"
        );
        verdict_batch(&mut self.writer, sequence, self.queue, last.id(), decided);
        self.wrote(last, send);
    }

    fn none_waits(&self, last: Place) -> bool {
        self.waiting.first().is_none_or(|oldest| *oldest > last)
    }

    fn wrote(&mut self, place: Place, send: &mut impl FnMut(&[u8]) -> bool) {
        self.written = self.written.max(Some(place));
        if self.writer.bytes().len() >= SEND_AT {
            self.send(send);
        }
    }

    fn send(&mut self, send: &mut impl FnMut(&[u8]) -> bool) {
        if !self.writer.bytes().is_empty() && !send(self.writer.bytes()) {
            self.doubt = self.doubt.max(self.written);
        }
        self.writer.clear();
        self.written = None;
    }
}
