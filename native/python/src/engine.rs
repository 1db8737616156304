//! The engine by call: a packet in, a verdict out.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::tz::{Offset, TimeZone};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};
use qfilter_core::conditions::MAX_DEPTH;
use qfilter_core::engine::{self, Desk, Now, Outcome};
use qfilter_core::fields::Field;
use qfilter_core::index::DimensionStructure;
use qfilter_core::malformed::{CODES, Malformed};
use qfilter_core::packet::Packet;
use qfilter_core::plan::Plan;
use qfilter_core::state::sets::{Added, Element, ElementRef, LiveSet};
use qfilter_core::state::tallies::{self, Tallies, Tally};
use qfilter_core::value::{Address, Cause, Numbers, Truth, Unknown, Value, What};
use qfilter_core::verdict::{Detail, Effect, Reason, Verdict};
use qfilter_queue::words_of;

use crate::packet::Owned;

/// A plan in force.
#[pyclass(module = "qfilter._native")]
pub struct Engine {
    engine: Arc<engine::Engine>,
    /// In a box: Python's memory is aligned to 16 bytes, and a desk wants more.
    desk: Mutex<Box<Desk>>,
}

/// A packet before a rule whose match only Python can tell.
#[pyclass(module = "qfilter._native", frozen)]
pub struct Suspended {
    packet: Owned,
    waiting: Mutex<Option<engine::Suspended>>,
    /// Index of the rule, in preorder.
    #[pyo3(get)]
    rule: u32,
    /// The packet's mark by now.
    #[pyo3(get)]
    mark: u32,
}

/// A verdict as numbers: kind, argument, reason (0 rule, 1 default, 2 and up the causes), rule, detail, mark, and index
/// of rule and action of each effect.
pub type Row = (u8, u16, u8, Option<u32>, String, Option<u32>, Vec<(u32, u32)>);

#[derive(IntoPyObject)]
enum Answer {
    Verdict(Row),
    Ask(Suspended),
}

#[pymethods]
impl Engine {
    /// `zone` is the name of a time zone, seconds east of Greenwich, or None for this machine's.
    #[new]
    fn new(py: Python<'_>, plan: &[u8], zone: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let zone = time_zone(zone)?;
        let made = py.detach(|| {
            Plan::from_bytes(plan)
                .and_then(|plan| engine::Engine::new(plan, zone))
                .map(Self::of)
        });
        made.map_err(PyValueError::new_err)
    }

    /// Another engine of the same plan, with sets, limits, flows and counts of its own.
    fn fresh(&self, py: Python<'_>, zone: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let zone = time_zone(zone)?;
        Ok(py.detach(|| Self::of(self.engine.fresh(zone))))
    }

    /// Judges a packet at a moment: monotonic nanoseconds and seconds since the epoch.
    fn decide(&self, packet: &Bound<'_, PyAny>, monotonic: i64, wall: f64) -> PyResult<Answer> {
        let owned = Owned::from_python(packet)?;
        let now = Now { monotonic, wall };
        Ok(self.answer(owned, "", |packet, desk| self.engine.decide(packet, now, desk)))
    }

    /// Goes on with a packet. `answer` is True, False, or the number of a cause (0 and up, in the order of CAUSES) with
    /// its words.
    fn resume(&self, suspended: &Suspended, answer: &Bound<'_, PyAny>, words: &str) -> PyResult<Answer> {
        let waiting = lock(&suspended.waiting).take();
        let waiting = waiting.ok_or_else(|| PyValueError::new_err("this packet has gone on already"))?;
        let truth = truth(answer, words)?;
        let owned = suspended.packet.clone();
        Ok(self.answer(owned, words, |packet, desk| {
            self.engine.resume(packet, waiting, truth, desk)
        }))
    }

    /// A field of a packet by its row, so many tunnels inside: what is known of it (None where that is nothing), why the
    /// rest is not (None where there is no rest) and the whole's length in bytes.
    fn read(&self, packet: &Bound<'_, PyAny>, field: usize, depth: u8, wall: f64) -> PyResult<Reading> {
        let owned = Owned::from_python(packet)?;
        let field = Field::from_index(field).ok_or_else(|| PyValueError::new_err(format!("field {field}")))?;
        if depth > MAX_DEPTH {
            return Err(PyValueError::new_err(format!(
                "depth {depth}: expected at most {MAX_DEPTH}"
            )));
        }
        Ok(reading(self.engine.read(
            &owned.view(),
            field,
            depth,
            Now { monotonic: 0, wall },
        )))
    }

    /// Between whom a packet goes, see `qfilter/engine/base.py`: source and destination address, their ports, the protocol.
    fn ends(&self, packet: &Bound<'_, PyAny>) -> PyResult<[Option<Known>; 5]> {
        let found = self.engine.ends(&Owned::from_python(packet)?.view());
        let (saddr, daddr) = found.addresses.unzip();
        let (sport, dport) = found.ports.unzip();
        let port = |port: u16| Known::Number(port.into());
        let protocol = found.protocol.map(|protocol| Known::Number(protocol.into()));
        Ok([
            saddr.map(Known::from),
            daddr.map(Known::from),
            sport.map(port),
            dport.map(port),
            protocol,
        ])
    }

    /// Takes over what another engine knows by name, before this one has judged anything; the flows of the rules that
    /// `kept` names go on.
    fn inherit(&mut self, py: Python<'_>, former: PyRef<'_, Self>, kept: HashSet<String>) -> PyResult<()> {
        let engine = Arc::get_mut(&mut self.engine);
        let engine = engine.ok_or_else(|| PyValueError::new_err("an engine in use inherits nothing"))?;
        let former = former.shared();
        py.detach(|| engine.inherit(&former, &kept));
        Ok(())
    }

    /// What the index of rules is made of: its bytes, by dimension the field, classes, vectors, chunks and bytes, the
    /// fields that rules test and that are left to them, and how many rules a search of the payload rules out.
    fn structure(&self) -> (usize, Vec<DimensionRow>, Vec<String>, usize) {
        let structure = self.engine.structure();
        let row = |dimension: &DimensionStructure| {
            let DimensionStructure {
                source,
                classes,
                vectors,
                chunks,
                bytes,
            } = *dimension;
            (source.to_string(), classes, vectors, chunks, bytes)
        };
        let left = structure.residual.iter().map(ToString::to_string).collect();
        let dimensions = structure.dimensions.iter().map(row).collect();
        (structure.bytes, dimensions, left, structure.searched)
    }

    /// What was counted by call.
    fn totals(&self) -> Totals {
        totals(&Tallies::sum([&*lock(&self.desk).tallies]))
    }

    /// Whether a set holds an element: a number, some bytes, or an object with the `packed` bytes of an address.
    fn contains(&self, set: usize, element: &Bound<'_, PyAny>, monotonic: i64) -> PyResult<bool> {
        with_element(element, |element| Ok(self.set(set)?.contains(element, monotonic)))
    }

    /// Adds to a dynamic set for so many nanoseconds, or the set's own time; False when it is full.
    fn add(&self, set: usize, element: &Bound<'_, PyAny>, timeout: Option<i64>, monotonic: i64) -> PyResult<bool> {
        with_element(element, |element| {
            match self.set(set)?.add(element, timeout, monotonic) {
                Added::Done | Added::InFile => Ok(true),
                Added::Refused => Ok(false),
                Added::Unfit => Err(PyValueError::new_err("the set is not dynamic, or of another type")),
            }
        })
    }

    /// Takes back what was added; False when it is not there.
    fn delete(&self, set: usize, element: &Bound<'_, PyAny>, monotonic: i64) -> PyResult<bool> {
        with_element(element, |element| Ok(self.set(set)?.delete(element, monotonic)))
    }

    /// Takes back everything that was added.
    fn flush(&self, set: usize) -> PyResult<()> {
        self.set(set)?.flush();
        Ok(())
    }

    /// What was added: number, packed address, text or ("digest", bytes), and the nanoseconds that each has left.
    fn elements(&self, set: usize, monotonic: i64) -> PyResult<Vec<(Held, Option<i64>)>> {
        Ok(self
            .set(set)?
            .list(monotonic, 0, usize::MAX)
            .into_iter()
            .map(|(element, left)| (Held::from(element), left))
            .collect())
    }

    /// Elements that are there, that were added, that were refused; zeros of a set that is not dynamic.
    fn set_tally(&self, set: usize, monotonic: i64) -> PyResult<(usize, u64, u64)> {
        let tally = self.set(set)?.tally(monotonic).unwrap_or_default();
        Ok((tally.elements, tally.added, tally.refused))
    }

    /// Counts a packet of so many bytes that did not even reach the engine.
    fn count_error(&self, length: u64) {
        self.engine
            .count_failure(Cause::Error, length, &lock(&self.desk).tallies);
    }
}

/// See [`Engine::read`].
type Reading = (Option<Known>, Option<(u8, String)>, Option<usize>);

/// A field's value as Python has it.
#[derive(IntoPyObject)]
enum Known {
    Number(u64),
    Address(Ipv4Addr),
    Address6(Ipv6Addr),
    Bytes(Cow<'static, [u8]>),
    Numbers(Vec<u64>),
}

impl From<Address> for Known {
    fn from(address: Address) -> Self {
        match address {
            Address::V4(number) => Self::Address(number.into()),
            Address::V6(number) => Self::Address6(number.into()),
        }
    }
}

fn reading(value: Value<'_>) -> Reading {
    let why = |unknown: Unknown| Some((unknown.cause as u8, unknown.what.to_string()));
    let numbers = |numbers: Numbers| Known::Numbers(numbers.as_slice().iter().copied().map(u64::from).collect());
    match value {
        Value::Absent => (None, None, None),
        Value::Unknown(unknown) => (None, why(unknown), None),
        Value::Number(number) => (Some(Known::Number(number)), None, None),
        Value::Address(address) => (Some(address.into()), None, None),
        Value::Bytes(bytes) => (Some(Known::Bytes(bytes.to_vec().into())), None, None),
        Value::Numbers(all) => (Some(numbers(all)), None, None),
        Value::PartialBytes { known, length, rest } => (Some(Known::Bytes(known.to_vec().into())), why(rest), length),
        Value::PartialNumbers { known, rest } => (Some(numbers(known)), why(rest), None),
    }
}

/// Field, classes, vectors, chunks and bytes.
type DimensionRow = (String, usize, usize, usize, usize);

/// Packets and bytes.
type Pairs = Vec<(u64, u64)>;

/// Packets and bytes by rule, named counter, hook, cause and kind of verdict, and packets by malformed code.
pub type Totals = (Pairs, Pairs, Pairs, Pairs, Pairs, Vec<(&'static str, u64)>);

/// Counts as Python has them.
pub fn totals(totals: &tallies::Totals) -> Totals {
    let pairs = |tallies: &[Tally]| tallies.iter().map(|tally| (tally.packets, tally.bytes)).collect();
    let malformed = CODES
        .iter()
        .zip(totals.malformed)
        .map(|((_, name), packets)| (*name, packets))
        .collect();
    (
        pairs(&totals.rules),
        pairs(&totals.counters),
        pairs(&totals.defaults),
        pairs(&totals.causes),
        pairs(&totals.kinds),
        malformed,
    )
}

/// Of True, False, or the number of a cause (0 and up, in the order of CAUSES) with its words.
pub fn truth(answer: &Bound<'_, PyAny>, words: &str) -> PyResult<Truth> {
    if let Ok(truth) = answer.extract::<bool>() {
        return Ok(truth.into());
    }
    let cause = cause(answer.extract()?)?;
    let code = (cause == Cause::Malformed)
        .then(|| Malformed::from_name(words))
        .flatten();
    let what = code.map_or(What::Said, What::Malformed);
    Ok(Truth::Unknown(Unknown { cause, what }))
}

/// An element as Python has it.
#[derive(IntoPyObject)]
enum Held {
    Number(u64),
    Address(Ipv4Addr),
    Address6(Ipv6Addr),
    Bytes(Cow<'static, [u8]>),
    Digest((&'static str, Cow<'static, [u8]>)),
}

impl From<Element> for Held {
    fn from(element: Element) -> Self {
        match element {
            Element::Number(number) => Self::Number(number),
            Element::Address(Address::V4(number)) => Self::Address(number.into()),
            Element::Address(Address::V6(number)) => Self::Address6(number.into()),
            Element::Bytes(bytes) => Self::Bytes(bytes.into_vec().into()),
            Element::Digest(digest) => Self::Digest(("digest", digest.to_vec().into())),
        }
    }
}

impl Engine {
    fn of(engine: engine::Engine) -> Self {
        let desk = Mutex::new(Box::new(engine.desk()));
        Self {
            engine: Arc::new(engine),
            desk,
        }
    }

    /// For the threads of queues.
    pub fn shared(&self) -> Arc<engine::Engine> {
        Arc::clone(&self.engine)
    }

    fn set(&self, index: usize) -> PyResult<&LiveSet> {
        let sets = self.engine.sets();
        sets.get(index)
            .ok_or_else(|| PyValueError::new_err(format!("set {index}: there are {}", sets.len())))
    }

    /// Where packets are judged by call.
    pub fn desk(&self) -> MutexGuard<'_, Box<Desk>> {
        lock(&self.desk)
    }

    /// What becomes of a packet; where its judge panicked, the outcome of the cause `error` and what the panic said.
    pub fn judge(
        &self,
        packet: &Packet<'_>,
        desk: &mut Desk,
        judge: impl FnOnce(&Packet<'_>, &mut Desk) -> Outcome,
    ) -> (Outcome, Option<String>) {
        match catch_unwind(AssertUnwindSafe(|| judge(packet, desk))) {
            Ok(outcome) => (outcome, None),
            Err(panic) => {
                *desk = self.engine.desk_with(Arc::clone(&desk.tallies));
                let verdict = self.engine.fail(packet, None, Cause::Error, desk);
                (Outcome::Verdict(verdict), Some(format!("panic: {}", words_of(&*panic))))
            }
        }
    }

    fn answer(&self, packet: Owned, words: &str, judge: impl FnOnce(&Packet<'_>, &mut Desk) -> Outcome) -> Answer {
        let mut desk = self.desk();
        let (outcome, panic) = self.judge(&packet.view(), &mut desk, judge);
        match outcome {
            Outcome::Verdict(verdict) => {
                Answer::Verdict(row(&verdict, &desk.effects, panic.as_deref().unwrap_or(words)))
            }
            Outcome::Ask(waiting) => {
                let (rule, mark) = (waiting.rule, waiting.mark);
                Answer::Ask(Suspended {
                    packet,
                    waiting: Mutex::new(Some(waiting)),
                    rule,
                    mark,
                })
            }
        }
    }
}

/// A verdict as Python has it; `words` are what Python said where it was asked.
pub fn row(verdict: &Verdict, effects: &[Effect], words: &str) -> Row {
    let reason = match verdict.reason {
        Reason::Rule => 0,
        Reason::Default => 1,
        Reason::Cause(cause) => 2 + cause as u8,
    };
    let detail = match verdict.detail {
        Detail::What(What::Said) => words.to_owned(),
        Detail::None if reason >= 2 => words.to_owned(),
        detail => detail.to_string(),
    };
    let effects = effects.iter().map(|effect| (effect.rule, effect.action)).collect();
    let decision = verdict.decision;
    (
        decision.kind as u8,
        decision.argument,
        reason,
        verdict.rule,
        detail,
        verdict.mark,
        effects,
    )
}

fn cause(number: usize) -> PyResult<Cause> {
    let found = qfilter_core::value::CAUSES.get(number).copied();
    found.ok_or_else(|| {
        PyValueError::new_err(format!(
            "cause {number}: there are {}",
            qfilter_core::value::CAUSES.len()
        ))
    })
}

fn with_element<T>(element: &Bound<'_, PyAny>, with: impl FnOnce(ElementRef<'_>) -> PyResult<T>) -> PyResult<T> {
    if let Ok(bytes) = element.cast::<PyBytes>() {
        return with(ElementRef::Bytes(bytes.as_bytes()));
    }
    if element.is_instance_of::<PyInt>() {
        // No set holds a number that does not fit.
        return with(element.extract().map_or(ElementRef::Bytes(&[]), ElementRef::Number));
    }
    let packed = element.getattr(intern!(element.py(), "packed"))?;
    let packed = packed.cast::<PyBytes>()?.as_bytes();
    let address = match (<[u8; 4]>::try_from(packed), <[u8; 16]>::try_from(packed)) {
        (Ok(v4), _) => Address::V4(u32::from_be_bytes(v4)),
        (_, Ok(v6)) => Address::V6(u128::from_be_bytes(v6)),
        _ => return Err(PyTypeError::new_err("an element is a number, bytes or an address")),
    };
    with(ElementRef::Address(address))
}

fn time_zone(zone: Option<&Bound<'_, PyAny>>) -> PyResult<TimeZone> {
    let Some(zone) = zone else {
        return Ok(TimeZone::system());
    };
    if let Ok(seconds) = zone.extract::<i32>() {
        return Offset::from_seconds(seconds)
            .map(TimeZone::fixed)
            .map_err(|error| PyValueError::new_err(error.to_string()));
    }
    TimeZone::get(&zone.extract::<String>()?).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// What a lock guards, also after a panic: a verdict is worth more than that packet's last step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
