//! The queues of a service, served by threads of their own; Python reads events, answers questions, and stops them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use qfilter_queue::{Change, Handle, Links, OpenError, Queue, Settings, Ticket};

use crate::engine::{Engine, Row, Totals, lock, row, totals, truth};
use crate::judge::{Event, InForce, PolicyJudge, Question, Refused, Shared, Told};

create_exception!(
    qfilter._native,
    TakenError,
    PyException,
    "A queue is held by another socket: its number."
);
create_exception!(
    qfilter._native,
    PrivilegeError,
    PyException,
    "NFQUEUE without CAP_NET_ADMIN."
);
create_exception!(
    qfilter._native,
    UnsupportedError,
    PyException,
    "This kernel cannot do what was asked."
);

/// Bound queues. Packets wait in them from the beginning, and are judged from `start` on.
#[pyclass(module = "qfilter._native", frozen)]
pub struct Server {
    shared: Arc<Shared>,
    bound: Mutex<Vec<(u16, Queue)>>,
    /// From the start on. No lock, for a stop or a change of settings takes long, and needs the answers meanwhile.
    serving: OnceLock<Vec<Serving>>,
    /// Every engine that a thread may still use.
    engines: Mutex<Vec<Arc<InForce>>>,
    warnings: Vec<String>,
}

/// One queue that is served.
struct Serving {
    number: u16,
    handle: Handle<Told>,
    refused: Arc<Refused>,
}

/// A question as Python has it: queue, ticket, number of the engine, index of the rule, mark, monotonic nanoseconds, packet.
type Asked<'py> = (u16, u64, u64, u32, u32, i64, Bound<'py, PyDict>);

/// An event as Python has it: number of the engine, packet (None where not more than its id is known), verdict.
type Recorded<'py> = (u64, Option<Bound<'py, PyDict>>, Row);

#[pymethods]
impl Server {
    /// Binds the queues `first` to `last`, or none.
    #[new]
    #[pyo3(signature = (engine, *, first, last, length, copy_range, socket_buffer, fail_open, conntrack, deadline))]
    #[expect(clippy::too_many_arguments, reason = "keywords, of one caller")]
    fn new(
        engine: PyRef<'_, Engine>,
        first: u16,
        last: u16,
        length: u32,
        copy_range: u32,
        socket_buffer: Option<usize>,
        fail_open: bool,
        conntrack: bool,
        deadline: Option<f64>,
    ) -> PyResult<Self> {
        let links = Arc::new(Links::open().map_err(refused)?);
        let cpus = cpus()?;
        let mut bound = Vec::new();
        for number in first..=last {
            let settings = Settings {
                length,
                copy_range,
                socket_buffer,
                fail_open,
                conntrack,
                waiting: (length / 2) as usize,
                deadline: deadline.map(Duration::from_secs_f64),
                cpu: cpus.iter().rev().nth(usize::from(number - first) % cpus.len()).copied(),
                ..Settings::new(number)
            };
            bound.push((number, Queue::open(settings, Arc::clone(&links)).map_err(refused)?));
        }
        let warnings = bound.iter().flat_map(|(_, queue)| queue.warnings().to_vec()).collect();
        let first = Arc::new(InForce::new(engine.shared(), 0));
        let shared = Arc::new(Shared::new(Arc::clone(&first)));
        Ok(Self {
            shared,
            bound: bound.into(),
            serving: OnceLock::new(),
            engines: vec![first].into(),
            warnings,
        })
    }

    /// What the operator should know: settings that the kernel did not take as wanted.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// Starts the threads.
    fn start(&self) -> PyResult<()> {
        // Held to the end: a stop that comes meanwhile stops them all.
        let mut bound = lock(&self.bound);
        let mut serving = Vec::new();
        for (number, queue) in bound.drain(..) {
            let refused = Arc::new(Refused::default());
            let judge = PolicyJudge::new(Arc::clone(&self.shared), Arc::clone(&refused), number);
            serving.push(Serving {
                number,
                handle: queue.start(judge)?,
                refused,
            });
        }
        let again = |_| PyRuntimeError::new_err("the queues were started before");
        self.serving.set(serving).map_err(again)
    }

    /// Gives the queues other settings; returns when every packet that was copied by those before has been judged, or
    /// waits.
    fn configure(
        &self,
        py: Python<'_>,
        length: u32,
        copy_range: u32,
        fail_open: bool,
        conntrack: bool,
        deadline: Option<f64>,
    ) -> PyResult<()> {
        let change = Change {
            length,
            copy_range,
            fail_open,
            conntrack,
            waiting: (length / 2) as usize,
            deadline: deadline.map(Duration::from_secs_f64),
        };
        py.detach(|| {
            self.serving()
                .iter()
                .try_for_each(|serving| serving.handle.change(change))
        })
        .map_err(refused)
    }

    /// Whether the kernel rules answer what is rejected by the engine in force, from the next verdict on; else that is
    /// dropped, and after such a time what earlier ones reject.
    fn answer_rejects(&self, answered: bool) {
        self.shared.answer_rejects(answered);
    }

    /// Puts an engine in force from the next batch on; gives its number.
    ///
    /// Whatever the queues are asked for after this call, no other engine sees what they copy then: a packet is received
    /// after it was copied, and the engine in force is looked up after the receive.
    fn replace(&self, engine: PyRef<'_, Engine>) -> PyResult<u64> {
        let number = self.shared.in_force.load().number + 1;
        let in_force = Arc::new(InForce::new(engine.shared(), number));
        lock(&self.engines).push(Arc::clone(&in_force));
        self.shared.in_force.store(in_force);
        for serving in self.serving() {
            serving.handle.wake()?;
        }
        Ok(number)
    }

    /// What the threads have counted with an engine.
    fn totals(&self, number: u64) -> PyResult<Totals> {
        let engines = lock(&self.engines);
        let found = engines.iter().find(|each| each.number == number);
        let found = found.ok_or_else(|| PyValueError::new_err(format!("engine {number} is not in use")))?;
        Ok(totals(&found.totals()))
    }

    /// Forgets an engine that no thread will use again, and gives its final totals; None while one may.
    fn retire(&self, number: u64) -> Option<Totals> {
        let mut engines = lock(&self.engines);
        let place = engines
            .iter()
            .position(|each| each.number == number && Arc::strong_count(each) == 1)?;
        let retired = engines.remove(place);
        Some(totals(&retired.totals()))
    }

    /// Questions that wait, `most` at once, after waiting for the first for so many seconds.
    fn questions<'py>(&self, py: Python<'py>, most: usize, patience: f64) -> PyResult<Vec<Asked<'py>>> {
        let found = py.detach(|| some(self.shared.questions(), most, patience));
        found.into_iter().map(|question| asked(py, &question)).collect()
    }

    /// Answers questions: queue, ticket, truth or the number of a cause, and its words.
    fn answer(&self, answers: Vec<(u16, u64, Bound<'_, PyAny>, String)>) -> PyResult<()> {
        let mut told = BTreeMap::<u16, Vec<_>>::new();
        for (queue, ticket, answer, words) in answers {
            let truth = truth(&answer, &words)?;
            told.entry(queue)
                .or_default()
                .push((Ticket(ticket), Told { truth, words }));
        }
        // Each queue has its own, also where another cannot be woken.
        let given = self.serving().iter().filter_map(|serving| {
            let own = told.remove(&serving.number)?;
            Some(serving.handle.answers().give(own))
        });
        given.fold(Ok(()), Result::and)?;
        match told.keys().next() {
            None => Ok(()),
            Some(queue) => Err(PyValueError::new_err(format!(
                "queue {queue}: expected one that is served"
            ))),
        }
    }

    /// Events that wait, `most` at once, after waiting for the first for so many seconds.
    fn events<'py>(&self, py: Python<'py>, most: usize, patience: f64) -> PyResult<Vec<Recorded<'py>>> {
        let found = py.detach(|| some(self.shared.events(), most, patience));
        found.iter().for_each(|event| self.shared.taken(event));
        found.iter().map(|event| recorded(py, event)).collect()
    }

    /// Events that nobody read in time.
    #[getter]
    fn events_lost(&self) -> u64 {
        self.shared.events_lost.load(Relaxed)
    }

    /// What each queue has seen, by name.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Vec<(u16, Bound<'py, PyDict>)>> {
        self.serving()
            .iter()
            .map(|serving| Ok((serving.number, counters(py, serving)?)))
            .collect()
    }

    /// Why a queue's thread ended by itself; None while all run, and after a stop.
    fn failure(&self) -> Option<String> {
        self.serving()
            .iter()
            .find_map(|serving| serving.handle.failure().map(ToString::to_string))
    }

    /// Gives what is queued its verdict, for so many seconds at most, then lets the queues go. Returns when that is done.
    fn stop(&self, py: Python<'_>, patience: f64) -> PyResult<()> {
        lock(&self.bound).clear();
        let patience = Duration::from_secs_f64(patience);
        let told = self.serving().iter().map(|serving| serving.handle.stop(patience));
        told.fold(Ok(()), Result::and)?;
        py.detach(|| {
            for serving in self.serving() {
                // Why it ended is `failure`'s to tell.
                let _ = serving.handle.join();
            }
        });
        Ok(())
    }
}

impl Server {
    fn serving(&self) -> &[Serving] {
        self.serving.get().map_or(&[], Vec::as_slice)
    }
}

fn recorded<'py>(py: Python<'py>, event: &Event) -> PyResult<Recorded<'py>> {
    let packet = event.packet.as_ref().map(|packet| packet.to_python(py)).transpose()?;
    Ok((event.engine, packet, row(&event.verdict, &event.effects, &event.words)))
}

fn asked<'py>(py: Python<'py>, question: &Question) -> PyResult<Asked<'py>> {
    let Question {
        queue,
        ticket,
        engine,
        rule,
        mark,
        monotonic,
        packet,
    } = question;
    Ok((
        *queue,
        ticket.0,
        *engine,
        *rule,
        *mark,
        *monotonic,
        packet.to_python(py)?,
    ))
}

/// The CPUs that this process may run on. Queues take them from the last one down: interrupts like the first.
///
/// A thread that stays where it is is not woken on the CPU of whoever sends, to share it, while another is idle.
fn cpus() -> PyResult<Vec<usize>> {
    let allowed = rustix::thread::sched_getaffinity(None).map_err(std::io::Error::from)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect())
}

/// The first that comes in time, and as many more as are there.
fn some<T>(from: &Receiver<T>, most: usize, patience: f64) -> Vec<T> {
    match from.recv_timeout(Duration::from_secs_f64(patience)) {
        Ok(first) => std::iter::once(first)
            .chain(from.try_iter().take(most.saturating_sub(1)))
            .collect(),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Vec::new(),
    }
}

fn counters<'py>(py: Python<'py>, serving: &Serving) -> PyResult<Bound<'py, PyDict>> {
    let seen = serving.handle.counters();
    let refused = serving.refused.count.load(Relaxed);
    let last = if refused > 0 {
        lock(&serving.refused.last).clone()
    } else {
        seen.last_failure
    };
    let failures: Vec<_> = seen
        .failures
        .iter()
        .map(|(cause, count)| (cause.name(), *count))
        .collect();
    let counters = PyDict::new(py);
    for (name, count) in [
        ("received", seen.received),
        ("accepted", seen.accepted),
        ("dropped", seen.dropped),
        ("queued", seen.queued),
        ("repeated", seen.repeated),
        ("truncated", seen.truncated),
        ("lost", seen.lost),
        ("refused", refused),
        ("panics", seen.panics),
        ("late_answers", seen.late_answers),
    ] {
        counters.set_item(name, count)?;
    }
    counters.set_item("errors", seen.errors)?;
    counters.set_item("failures", failures)?;
    counters.set_item("last_failure", last)?;
    Ok(counters)
}

fn refused(error: OpenError) -> PyErr {
    match error {
        OpenError::Taken { number } => TakenError::new_err(number),
        OpenError::Privilege => PrivilegeError::new_err(error.to_string()),
        OpenError::Absent | OpenError::FailOpen => UnsupportedError::new_err(error.to_string()),
        OpenError::Setting(words) => PyValueError::new_err(words),
        OpenError::Refused { what, error } => {
            PyOSError::new_err((error.raw_os_error().unwrap_or_default(), format!("{what}: {error}")))
        }
    }
}
