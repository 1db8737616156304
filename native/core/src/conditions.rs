//! Conditions of a rule against one packet. See `qfilter/engine/conditions.py`.

use std::cell::{Cell, OnceCell, RefCell};

use crate::decode::{Clock, Decoded, Inside};
use crate::engine::{Engine, Now};
use crate::fields::Field;
use crate::literals::Found;
use crate::malformed::Malformed;
use crate::matching::{Context, matches};
use crate::packet::Packet;
use crate::plan::{Bytes, Condition};
use crate::state::flows::FlowPacket;
use crate::state::sets::ElementRef;
use crate::value::{Address, Cause, Truth, Unknown, Value, What};

/// How many tunnels `inner.` may look into.
pub const MAX_DEPTH: u8 = 4;

/// A packet on its way through the rules: what they may look at.
pub struct View<'e, 'a> {
    /// As it arrived.
    pub packet: &'a Packet<'a>,
    /// Its mark, with what rules have set by now.
    pub mark: u32,
    /// When it is judged.
    pub now: Now,
    engine: &'e Engine,
    decoded: Decoded<'a>,
    inner: [OnceCell<Inside<'a>>; MAX_DEPTH as usize],
    found: RefCell<Found>,
    searched: Cell<bool>,
}

impl<'e, 'a> View<'e, 'a> {
    /// A packet before the first rule; `found` is memory for what a search of its payload finds.
    #[inline]
    pub fn new(engine: &'e Engine, packet: &'a Packet<'a>, decoded: Decoded<'a>, now: Now, found: Found) -> Self {
        Self {
            packet,
            mark: packet.mark,
            now,
            engine,
            decoded,
            inner: [const { OnceCell::new() }; MAX_DEPTH as usize],
            found: RefCell::new(found),
            searched: Cell::new(false),
        }
    }

    /// Gives the memory back.
    pub fn take_found(&mut self) -> Found {
        std::mem::take(self.found.get_mut())
    }

    /// Reads the packet's headers, before anything else is asked of it.
    ///
    /// # Errors
    /// See [`crate::decode::decode`].
    #[inline]
    pub fn read_headers(&mut self) -> Result<(), Malformed> {
        self.decoded.read_headers()
    }

    /// A field's value, absent or unknown, so many tunnels inside.
    pub fn read(&self, field: Field, depth: u8) -> Value<'a> {
        let clock = Clock {
            wall: self.now.wall,
            zone: &self.engine.zone,
        };
        let mut level = &self.decoded;
        for below in &self.inner[..usize::from(depth)] {
            match below.get_or_init(|| level.inside()) {
                Inside::Packet(inner) => level = inner,
                Inside::Absent => return Value::Absent,
                Inside::Malformed(code) => {
                    return Value::Unknown(Unknown {
                        cause: Cause::Malformed,
                        what: What::Malformed(*code),
                    });
                }
                Inside::Unknown(cause) => {
                    return Value::Unknown(Unknown {
                        cause: *cause,
                        what: What::Field(field, depth),
                    });
                }
            }
        }
        if field == Field::Mark {
            return Value::Number(self.mark.into());
        }
        level.read(field, self.packet, &clock)
    }

    /// Whether a condition is true of the packet.
    pub fn holds(&self, condition: &Condition) -> Truth {
        match condition {
            Condition::All(inner) => self.every(inner),
            Condition::Any(inner) => Truth::some(inner.iter().map(|each| self.holds(each))),
            Condition::Not(inner) => self.holds(inner).negate(),
            Condition::Field(field, depth, test) => match self.read(*field, *depth) {
                Value::Absent => Truth::False,
                Value::Unknown(unknown) => Truth::Unknown(unknown),
                value if *field == Field::Payload && *depth == 0 => matches(test, &value, &OfPayload(self)),
                value => matches(test, &value, self),
            },
            Condition::Bytes(bytes) => self.bytes(bytes),
            Condition::Python => Truth::Pending,
        }
    }

    /// Whether all of some conditions are true of the packet.
    pub fn every<'c>(&self, conditions: impl IntoIterator<Item = &'c Condition>) -> Truth {
        Truth::every(conditions.into_iter().map(|each| self.holds(each)))
    }

    /// What the packet's flow is known by; None where its ports are unknown.
    pub fn flow(&self) -> Option<FlowPacket<'a>> {
        let (saddr, daddr) = self.decoded.addresses()?;
        let (sport, dport) = self.decoded.ports()?;
        let tcp_flags = match self.read(Field::TcpFlags, 0) {
            Value::Number(flags) => Some(flags),
            _ => None,
        };
        Some(FlowPacket {
            hook: self.packet.hook,
            protocol: self.decoded.protocol()?,
            saddr,
            daddr,
            sport,
            dport,
            iifname: self.packet.iifname,
            oifname: self.packet.oifname,
            tcp_flags,
        })
    }

    /// Calls `with` for each element that a field's value is, as far as it is known.
    pub fn each_element(&self, field: Field, mut with: impl FnMut(ElementRef<'_>)) {
        match self.read(field, 0) {
            Value::Number(number) => with(ElementRef::Number(number)),
            Value::Address(address) => with(ElementRef::Address(address)),
            Value::Bytes(bytes) => with(ElementRef::Bytes(bytes)),
            Value::Numbers(numbers) => {
                numbers
                    .as_slice()
                    .iter()
                    .for_each(|number| with(ElementRef::Number((*number).into())));
            }
            Value::Absent | Value::Unknown(_) | Value::PartialBytes { .. } | Value::PartialNumbers { .. } => {}
        }
    }

    /// The literals that a search has found in the whole payload; None when it did not run, or saw a part only.
    pub fn found(&self) -> Option<std::cell::Ref<'_, Found>> {
        let whole = self.searched.get() && matches!(self.read(Field::Payload, 0), Value::Bytes(_) | Value::Absent);
        whole.then(|| self.found.borrow())
    }

    fn bytes(&self, test: &Bytes) -> Truth {
        match self.decoded.read_bytes(test.base, test.offset, test.value.len()) {
            Value::Unknown(unknown) => Truth::Unknown(unknown),
            Value::Bytes(found) => {
                let equal = found
                    .iter()
                    .zip(&test.mask)
                    .map(|(byte, mask)| byte & mask)
                    .eq(test.value.iter().copied());
                (equal != test.negated).into()
            }
            _ => Truth::False,
        }
    }

    /// What a search of the payload has found; it runs when a rule asks first.
    fn search(&self) -> std::cell::RefMut<'_, Found> {
        let mut found = self.found.borrow_mut();
        if !self.searched.replace(true) {
            let payload = match self.read(Field::Payload, 0) {
                Value::Bytes(known) | Value::PartialBytes { known, .. } => known,
                _ => &[],
            };
            self.engine.searcher.find(payload, &mut found);
        }
        found
    }
}

impl Context for View<'_, '_> {
    fn addresses(&self, index: usize, address: Address) -> bool {
        self.engine.plan.addresses[index].contains(address)
    }

    fn set(&self, index: usize, element: ElementRef<'_>) -> bool {
        self.engine.sets[index].contains(element, self.now.monotonic)
    }

    fn regex(&self, index: usize, text: &[u8]) -> bool {
        self.engine.searcher.regex(index, text)
    }

    fn literal(&self, index: usize) -> bool {
        self.search().contains(index)
    }
}

/// The packet's own payload, which is searched for the literals of all patterns at once.
struct OfPayload<'v, 'e, 'a>(&'v View<'e, 'a>);

impl Context for OfPayload<'_, '_, '_> {
    fn addresses(&self, index: usize, address: Address) -> bool {
        self.0.addresses(index, address)
    }

    fn set(&self, index: usize, element: ElementRef<'_>) -> bool {
        self.0.set(index, element)
    }

    fn regex(&self, index: usize, text: &[u8]) -> bool {
        self.0.engine.searcher.may_match(index, &self.0.search()) && self.0.regex(index, text)
    }

    fn literal(&self, index: usize) -> bool {
        self.0.literal(index)
    }
}
