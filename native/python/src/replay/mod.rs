//! The packets of a capture judged many at a time, each with a row of text. Python reads the file, and whatever in it is
//! not plain; `NativeReplay` in `qfilter/engine/native.py` is the other side.

mod link;
mod records;
mod row;

use std::collections::HashMap;
use std::io::Write as _;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};
use qfilter_core::decode::Ends;
use qfilter_core::engine::{Now, Outcome, Suspended};
use qfilter_core::packet::{Hook, Packet};
use qfilter_core::value::Truth;
use qfilter_core::verdict::{Effect, Reason, Verdict};

use self::link::Carried;
use self::records::{Clocked, Order, Record};
use self::row::{Form, Pieces, Told, Writer, seconds};
use crate::engine::{Engine, row, truth};
use crate::judge;
use crate::packet::{hook, text};

/// Kinds of rows whose pieces are remembered: then all are forgotten.
const MOST_KINDS: usize = 4_096;

/// The latest time, in 2116: nothing behind it is due before `NEVER`. As `qfilter/cli/replayed.py` has it.
const LATEST: i64 = 1 << 62;

/// How many frames and how many bytes were taken, and the rows.
type Batch<'py> = (u64, usize, Bound<'py, PyString>);

/// A replay: an engine, and what Python tells of rows.
#[pyclass(module = "qfilter._native")]
pub struct Replay {
    engine: Py<Engine>,
    /// The list of a pcapng's section whose beginning `interfaces` is.
    section: Option<Py<PyList>>,
    interfaces: Vec<Interface>,
    rows: Rows,
}

struct Interface {
    link_type: u16,
    clocked: Clocked,
    name: Option<String>,
    names: Option<Names>,
}

/// The interfaces of a packet, for the core and for Python.
struct Names {
    iifname: Option<Vec<u8>>,
    oifname: Option<Vec<u8>>,
    python: (Py<PyAny>, Py<PyAny>),
}

#[pymethods]
impl Replay {
    /// `host` has `names`, `ask` and `pieces`. Rows are lines with ends in `width` columns, or objects when that is None.
    #[new]
    fn new(engine: Py<Engine>, host: Py<PyAny>, hook_name: &Bound<'_, PyAny>, width: Option<usize>) -> PyResult<Self> {
        let form = width.map_or(Form::Object, |width| Form::Line { width });
        Ok(Self {
            engine,
            section: None,
            interfaces: Vec::new(),
            rows: Rows {
                host,
                hook: hook(hook_name)?,
                form,
                writer: Writer::new(form),
                kinds: HashMap::new(),
                pieces: Vec::new(),
                key: Vec::new(),
                frames: 0,
                without_ip: 0,
                now: 0,
            },
        })
    }

    /// Takes the whole records of a pcap that stand in a block from an offset on.
    fn pcap<'py>(
        &mut self,
        block: &Bound<'py, PyBytes>,
        at: usize,
        big: bool,
        unit: u64,
        link_type: u16,
    ) -> PyResult<Batch<'py>> {
        if self.interfaces.is_empty() {
            self.interfaces.push(Interface::plain(link_type, None));
        }
        self.batch(block, at, |rest, _| records::pcap(rest, Order { big }, unit))
    }

    /// The same for blocks of a pcapng; `interfaces` are those of their section so far.
    fn pcapng<'py>(
        &mut self,
        block: &Bound<'py, PyBytes>,
        at: usize,
        big: bool,
        interfaces: &Bound<'py, PyList>,
    ) -> PyResult<Batch<'py>> {
        if !self.section.as_ref().is_some_and(|section| section.is(interfaces)) {
            self.section = Some(interfaces.clone().unbind());
            self.interfaces.clear();
        }
        for interface in interfaces.iter().skip(self.interfaces.len()) {
            self.interfaces.push(Interface::from_python(&interface)?);
        }
        self.batch(block, at, |rest, interfaces| {
            let clocked = |index: usize| interfaces.get(index).map(|interface| &interface.clocked);
            records::pcapng(rest, Order { big }, clocked)
        })
    }

    /// A frame that Python has read: its number, what it carries, and the bytes of that on the wire.
    fn packet<'py>(
        &mut self,
        py: Python<'py>,
        n: u64,
        data: Option<&[u8]>,
        wire_length: u64,
        nanoseconds: Option<u128>,
        interface: Option<String>,
    ) -> PyResult<Bound<'py, PyString>> {
        self.rows.frames = n - 1;
        let carried = data.map_or(Carried::Other, |data| Carried::Ip(data, wire_length));
        // Its link header was read.
        let mut interface = Interface::plain(0, interface);
        let engine = self.engine.borrow(py);
        let engine: &Engine = &engine;
        let rows = &mut self.rows;
        py.detach(|| rows.frame(engine, &mut interface, &carried, nanoseconds))?;
        Ok(self.rows.take(py))
    }

    /// Frames that carry no IP.
    #[getter]
    fn without_ip(&self) -> u64 {
        self.rows.without_ip
    }

    /// The capture's clock, in nanoseconds.
    #[getter]
    fn now(&self) -> i64 {
        self.rows.now
    }
}

impl Replay {
    fn batch<'py>(
        &mut self,
        block: &Bound<'py, PyBytes>,
        at: usize,
        next: impl for<'a> Fn(&'a [u8], &[Interface]) -> Option<Record<'a>> + Send,
    ) -> PyResult<Batch<'py>> {
        let py = block.py();
        let mut rest = block.as_bytes().get(at..).unwrap_or_default();
        let (before, whole) = (self.rows.frames, rest.len());
        let engine = self.engine.borrow(py);
        let engine: &Engine = &engine;
        let (rows, interfaces) = (&mut self.rows, &mut self.interfaces);
        let left = py.detach(move || {
            while let Some(record) = next(rest, interfaces) {
                let interface = &mut interfaces[record.interface];
                let Some(carried) = link::read(interface.link_type, record.frame, record.wire_length) else {
                    break;
                };
                rows.frame(engine, interface, &carried, record.nanoseconds)?;
                rest = &rest[record.size..];
            }
            PyResult::Ok(rest.len())
        })?;
        Ok((self.rows.frames - before, whole - left, self.rows.take(py)))
    }
}

impl Interface {
    /// Of frames about which only a pcapng could say more.
    fn plain(link_type: u16, name: Option<String>) -> Self {
        let clocked = Clocked {
            snap_length: 0,
            units: None,
            offset: 0,
        };
        Self {
            link_type,
            clocked,
            name,
            names: None,
        }
    }

    fn from_python(interface: &Bound<'_, PyAny>) -> PyResult<Self> {
        let get = |name: &str| interface.getattr(name);
        Ok(Self {
            link_type: get("link_type")?.extract()?,
            clocked: Clocked {
                snap_length: get("snap_length")?.extract()?,
                units: get("units")?.extract().ok(),
                offset: get("offset")?.extract()?,
            },
            name: get("name")?.extract()?,
            names: None,
        })
    }

    /// Asks Python at the first packet, because it may have something to say about it.
    fn names(&mut self, host: &Py<PyAny>) -> PyResult<&Names> {
        let names = match self.names.take() {
            Some(names) => names,
            None => Python::attach(|py| {
                let told = host.call_method1(py, intern!(py, "names"), (self.name.as_deref(),))?;
                let python: (Py<PyAny>, Py<PyAny>) = told.extract(py)?;
                PyResult::Ok(Names {
                    iifname: text(python.0.bind(py))?,
                    oifname: text(python.1.bind(py))?,
                    python,
                })
            })?,
        };
        Ok(self.names.insert(names))
    }
}

struct Rows {
    host: Py<PyAny>,
    hook: Hook,
    form: Form,
    writer: Writer,
    /// Index of the pieces of a kind of rows: of all that a row's look depends on.
    kinds: HashMap<Box<[u8]>, usize>,
    pieces: Vec<Pieces>,
    key: Vec<u8>,
    frames: u64,
    without_ip: u64,
    now: i64,
}

impl Rows {
    fn take<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyString> {
        let text = PyString::new(py, &self.writer.text);
        self.writer.text.clear();
        text
    }

    fn frame(
        &mut self,
        engine: &Engine,
        interface: &mut Interface,
        carried: &Carried<'_>,
        nanoseconds: Option<u128>,
    ) -> PyResult<()> {
        self.frames += 1;
        // The clock stands still between packets and never runs back.
        let time = i64::try_from(nanoseconds.unwrap_or(0)).unwrap_or(LATEST);
        self.now = self.now.max(time).min(LATEST);
        let Carried::Ip(data, wire_length) = *carried else {
            self.without_ip += 1;
            return Ok(());
        };
        let names = interface.names(&self.host)?;
        let packet = Packet {
            wire_length,
            iifname: names.iifname.as_deref(),
            oifname: names.oifname.as_deref(),
            timestamp: nanoseconds.map(seconds),
            ..Packet::new(data, self.hook)
        };
        self.judge(engine, names, &packet, nanoseconds)
    }

    fn judge(
        &mut self,
        engine: &Engine,
        names: &Names,
        packet: &Packet<'_>,
        nanoseconds: Option<u128>,
    ) -> PyResult<()> {
        let core = engine.shared();
        let wall = if packet.timestamp.is_none() {
            judge::now().wall
        } else {
            0.0
        };
        let now = Now {
            monotonic: self.now,
            wall,
        };
        let mut desk = engine.desk();
        let mut judged = engine.judge(packet, &mut desk, |packet, desk| core.decide(packet, now, desk));
        let mut words = String::new();
        let verdict = loop {
            match judged.0 {
                Outcome::Verdict(verdict) => break verdict,
                Outcome::Ask(suspended) => {
                    drop(desk); // Python may want the engine
                    let truth;
                    (truth, words) = self.ask(&suspended, packet, names)?;
                    desk = engine.desk();
                    judged = engine.judge(packet, &mut desk, |packet, desk| {
                        core.resume(packet, suspended, truth, desk)
                    });
                }
            }
        };
        let words = judged.1.unwrap_or(words);
        let told = Told {
            n: self.frames,
            nanoseconds,
            wire_length: packet.wire_length,
            ends: match self.form {
                Form::Object => Ends::default(),
                Form::Line { .. } => core.ends(packet),
            },
        };
        let kind = self.kind(names, &verdict, &desk.effects, &words, told.ends.protocol)?;
        self.writer.row(&self.pieces[kind], &told)
    }

    /// The truth of a whole match, which only Python can tell, and its words.
    fn ask(&self, suspended: &Suspended, packet: &Packet<'_>, names: &Names) -> PyResult<(Truth, String)> {
        Python::attach(|py| {
            let (iifname, oifname) = &names.python;
            let question = (
                suspended.rule,
                suspended.mark,
                suspended.now.monotonic,
                PyBytes::new(py, packet.data),
                packet.wire_length,
                packet.timestamp,
                iifname,
                oifname,
            );
            let answer = self.host.call_method1(py, intern!(py, "ask"), question)?;
            let (answer, words): (Bound<'_, PyAny>, String) = answer.extract(py)?;
            Ok((truth(&answer, &words)?, words))
        })
    }

    /// The index of a row's pieces.
    fn kind(
        &mut self,
        names: &Names,
        verdict: &Verdict,
        effects: &[Effect],
        words: &str,
        protocol: Option<u8>,
    ) -> PyResult<usize> {
        self.write_key(names, verdict, effects, words, protocol);
        if let Some(kind) = self.kinds.get(&*self.key) {
            return Ok(*kind);
        }
        if self.pieces.len() == MOST_KINDS {
            self.kinds.clear();
            self.pieces.clear();
        }
        let pieces = Python::attach(|py| {
            let (iifname, oifname) = &names.python;
            let about = (row(verdict, effects, words), iifname, oifname, protocol);
            let pieces = self.host.call_method1(py, intern!(py, "pieces"), about)?;
            let (a, b, c, d): (String, String, String, String) = pieces.extract(py)?;
            PyResult::Ok((a.into(), b.into(), c.into(), d.into()))
        })?;
        self.pieces.push(pieces);
        self.kinds.insert(self.key.as_slice().into(), self.pieces.len() - 1);
        Ok(self.pieces.len() - 1)
    }

    /// Every part is of fixed size or tells its length before it, so that no two kinds share a key.
    fn write_key(&mut self, names: &Names, verdict: &Verdict, effects: &[Effect], words: &str, protocol: Option<u8>) {
        let key = &mut self.key;
        key.clear();
        let reason = match verdict.reason {
            Reason::Rule => 0,
            Reason::Default => 1,
            Reason::Cause(cause) => 2 + cause as u8,
        };
        key.extend([
            verdict.decision.kind as u8,
            reason,
            protocol.is_some().into(),
            protocol.unwrap_or(0),
        ]);
        key.extend(verdict.decision.argument.to_ne_bytes());
        key.extend(verdict.rule.map_or(-1, i64::from).to_ne_bytes());
        key.extend((effects.len() as u32).to_ne_bytes());
        for effect in effects {
            key.extend(effect.rule.to_ne_bytes());
            key.extend(effect.action.to_ne_bytes());
        }
        for name in [&names.iifname, &names.oifname] {
            key.extend(name.as_ref().map_or(usize::MAX, Vec::len).to_ne_bytes());
            key.extend(name.as_deref().unwrap_or_default());
        }
        key.extend(words.len().to_ne_bytes());
        key.extend(words.as_bytes());
        write!(key, "{}", verdict.detail).expect("memory takes everything");
    }
}
