//! A queue from its binding to its end, as other threads see it.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use rustix::thread::{MembarrierCommand, membarrier};

use crate::changes::Change;
use crate::counters::{Counters, Snapshot};
use crate::error::{OpenError, QueueError};
use crate::guarded::{Guarded, words_of};
use crate::judge::{Judge, Ticket};
use crate::links::Links;
use crate::mailbox::{Mailbox, WAKE};
use crate::netlink::{Writer, messages};
use crate::nfqueue::{COPY_LIMIT, Config, bind, change as change_to, flag, greet, probe};
use crate::serve::Serving;
use crate::settings::Settings;
use crate::socket::{Slots, Socket, block_signals, pin};
use crate::verdicts::Planner;
use crate::waiting::Waiting;

/// What a message has beside the packet's bytes: attributes of some hundred bytes, the longest those of conntrack.
const BESIDE_PAYLOAD: usize = 2_048;
/// As good as for ever: no clock overflows by it.
const LONGEST: Duration = Duration::from_secs(1 << 30);

/// A bound queue: packets wait in it from now on. Dropped without [`Queue::start`], it lets go, and they are dropped.
pub struct Queue {
    settings: Settings,
    socket: Socket,
    slots: Slots,
    links: Arc<Links>,
    flags: u32,
    warnings: Vec<String>,
}

impl Queue {
    /// Binds a queue of the calling thread's network namespace.
    ///
    /// # Errors
    /// See [`OpenError`]; then nothing is bound.
    pub fn open(settings: Settings, links: Arc<Links>) -> Result<Self, OpenError> {
        check(&settings)?;
        let refused = |errno: Errno| OpenError::refused(format!("bind queue {}", settings.number), errno);
        let socket = Socket::open(Some(NETFILTER), 0).map_err(|errno| match errno {
            Errno::PROTONOSUPPORT => OpenError::Absent,
            errno => refused(errno),
        })?;
        // For the longest copies: settings may change. Memory that no message reaches is never the kernel's to give.
        let slots = Slots::new(COPY_LIMIT as usize + BESIDE_PAYLOAD);
        let mut queue = Self {
            settings,
            socket,
            slots,
            links,
            flags: 0,
            warnings: Vec::new(),
        };
        queue.greet()?;
        let flags = queue.flags()?;
        queue.flags = flags & !(flag::FAIL_OPEN | flag::CONNTRACK);
        queue.size_buffer()?;
        queue.bind(flags)?;
        Ok(queue)
    }

    /// What the operator should know: settings that the kernel did not take as wanted, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Gives the queue to a thread that serves it from now on, by that judge.
    ///
    /// # Errors
    /// When there is no thread to be had, or it cannot run on the CPU of the settings. The queue is let go then.
    pub fn start<J: Judge>(self, judge: J) -> io::Result<Handle<J::Answer>> {
        let Self {
            settings,
            socket,
            slots,
            links,
            flags,
            ..
        } = self;
        let (socket, counters) = (Arc::new(socket), Arc::new(Counters::default()));
        let shared = Arc::new(Shared {
            number: settings.number,
            flags,
            mailbox: Arc::new(Mailbox::new(Arc::clone(&socket))),
            counters: Arc::clone(&counters),
            ended: OnceLock::new(),
        });
        let serving = Serving {
            mailbox: Arc::clone(&shared.mailbox),
            judge: Guarded::new(judge, Arc::clone(&counters)),
            planner: Planner::new(settings.number),
            waiting: Waiting::new(settings.waiting),
            stop: None,
            settings,
            socket,
            counters,
        };
        let thread = spawn(serving, slots, links, Arc::clone(&shared))?;
        Ok(Handle {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Without privilege every later request would be refused with the same EPERM that a queue of others has.
    fn greet(&mut self) -> Result<(), OpenError> {
        match self.ask(greet)? {
            None => Ok(()),
            Some(Errno::PERM) => Err(OpenError::Privilege),
            Some(Errno::INVAL) => Err(OpenError::Absent),
            Some(errno) => Err(OpenError::refused("ask what NFQUEUE can do", errno)),
        }
    }

    /// The wanted flags that this kernel takes; with one that it does not take it would refuse them all.
    fn flags(&mut self) -> Result<u32, OpenError> {
        let wanted = [
            (flag::GSO, "GSO", true),
            (flag::UID_GID, "UID_GID", true),
            (flag::CONNTRACK, "CONNTRACK", self.settings.conntrack),
            (flag::FAIL_OPEN, "FAIL_OPEN", self.settings.fail_open),
        ];
        let mut flags = 0;
        for (flag, name, _) in wanted.into_iter().filter(|(_, _, wanted)| *wanted) {
            if self.ask(|writer| probe(writer, flag))? != Some(Errno::OPNOTSUPP) {
                flags |= flag;
            } else if flag == flag::FAIL_OPEN {
                return Err(OpenError::FailOpen);
            } else {
                self.warnings.push(format!(
                    "queue {}: this kernel does not support {name}",
                    self.settings.number
                ));
            }
        }
        Ok(flags)
    }

    fn size_buffer(&mut self) -> Result<(), OpenError> {
        let (number, wanted) = (self.settings.number, self.settings.buffer());
        let refused = |error: io::Error| OpenError::refused(format!("configure queue {number}"), error);
        let got = self.socket.resize(wanted).map_err(|errno| refused(errno.into()))?;
        if got < wanted {
            self.warnings.push(format!(
                "queue {number}: socket buffer of {got} bytes: {wanted} were asked for"
            ));
        }
        self.socket.never_refuse().map_err(refused)
    }

    /// Packets may come before any answer would. So none is asked for: only a refusal answers, and then none came.
    fn bind(&mut self, flags: u32) -> Result<(), OpenError> {
        let Settings {
            number,
            length,
            copy_range,
            ..
        } = self.settings;
        let mut request = Writer::default();
        bind(
            &mut request,
            number,
            Config {
                copy_range,
                length,
                flags,
            },
        );
        let refused = |errno: Errno| OpenError::refused(format!("bind queue {number}"), errno);
        self.socket.send(request.bytes()).map_err(refused)?;
        match self.socket.peek(&mut self.slots) {
            Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(refused(errno)),
            Ok(()) => match self.answer() {
                None => Ok(()),
                Some(Errno::PERM | Errno::BUSY | Errno::EXIST) => Err(OpenError::Taken { number }),
                Some(errno) => Err(refused(errno)),
            },
        }
    }

    /// The kernel's refusal of a request to a socket that has nothing bound; `None` when it did what was asked.
    fn ask(&mut self, write: impl FnOnce(&mut Writer)) -> Result<Option<Errno>, OpenError> {
        let refused = |errno: Errno| OpenError::refused("ask what NFQUEUE can do", errno);
        let mut request = Writer::default();
        write(&mut request);
        self.socket.send(request.bytes()).map_err(refused)?;
        self.socket.receive(&mut self.slots, false).map_err(refused)?;
        Ok(self.answer())
    }

    fn answer(&self) -> Option<Errno> {
        let errno = self
            .slots
            .datagrams()
            .flat_map(|(datagram, _)| messages(datagram))
            .find_map(|message| {
                message
                    .ok()
                    .and_then(|message| message.errno())
                    .filter(|errno| *errno != 0)
            });
        errno.map(Errno::from_raw_os_error)
    }
}

fn check(settings: &Settings) -> Result<(), OpenError> {
    let Settings {
        number,
        length,
        copy_range,
        waiting,
        ..
    } = *settings;
    if copy_range == 0 || copy_range > COPY_LIMIT {
        return Err(OpenError::Setting(format!(
            "queue {number}: copy range {copy_range}: expected 1 to {COPY_LIMIT}"
        )));
    }
    if length == 0 || waiting >= length as usize {
        let words = format!("queue {number}: {waiting} packets may wait: expected fewer than its length, {length}");
        return Err(OpenError::Setting(words));
    }
    Ok(())
}

struct Shared<A> {
    number: u16,
    /// Those that the queue has whatever the settings.
    flags: u32,
    mailbox: Arc<Mailbox<A>>,
    counters: Arc<Counters>,
    ended: OnceLock<Result<(), QueueError>>,
}

fn spawn<J: Judge>(
    serving: Serving<J>,
    slots: Slots,
    links: Arc<Links>,
    shared: Arc<Shared<J::Answer>>,
) -> io::Result<JoinHandle<()>> {
    let (started, answer) = std::sync::mpsc::sync_channel(1);
    let (name, cpu) = (format!("qfilter-q{}", serving.settings.number), serving.settings.cpu);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        block_signals();
        let pinned = cpu.map_or(Ok(()), pin);
        let failed = pinned.is_err();
        if started.send(pinned).is_err() || failed {
            return;
        }
        let serve = std::panic::AssertUnwindSafe(|| serving.run(slots, &links));
        let ended =
            std::panic::catch_unwind(serve).unwrap_or_else(|panic| Err(QueueError::Panic(words_of(panic.as_ref()))));
        shared.ended.get_or_init(|| ended);
    })?;
    answer
        .recv()
        .map_err(|_| io::Error::other("the queue's thread ended at once"))??;
    Ok(thread)
}

/// A queue that is served by its thread. Dropped, it stops it without patience.
pub struct Handle<A> {
    shared: Arc<Shared<A>>,
    /// Until somebody has waited for its end.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<A> Handle<A> {
    /// Where answers to questions go. It may be cloned, and outlive the queue.
    pub fn answers(&self) -> Answers<A> {
        Answers(Arc::clone(&self.shared.mailbox))
    }

    /// What has been counted so far.
    pub fn counters(&self) -> Snapshot {
        self.shared.counters.snapshot()
    }

    /// Has the loop go round once though nothing came: the judge's `begin_batch` and `end_batch` are called.
    ///
    /// # Errors
    /// What the kernel says when it takes no request; the loop goes round with the next packet then.
    pub fn wake(&self) -> io::Result<()> {
        Ok(self.shared.mailbox.wake()?)
    }

    /// Gives the queue other settings, and returns when every packet that was copied by those before has been judged, or
    /// waits.
    ///
    /// # Errors
    /// What the kernel refuses, or that it did not answer; the queue may have the settings then.
    pub fn change(&self, change: Change) -> Result<(), OpenError> {
        let shared = &self.shared;
        let Change {
            length,
            copy_range,
            fail_open,
            conntrack,
            waiting,
            deadline,
        } = change;
        let wanted = Settings {
            length,
            copy_range,
            fail_open,
            conntrack,
            waiting,
            deadline,
            ..Settings::new(shared.number)
        };
        check(&wanted)?;
        let optional = [(flag::FAIL_OPEN, fail_open), (flag::CONNTRACK, conntrack)];
        let flags = optional
            .iter()
            .filter(|(_, wanted)| *wanted)
            .fold(shared.flags, |flags, (flag, _)| flags | flag);
        let config = Config {
            copy_range,
            length,
            flags,
        };
        let request = |sequence| {
            if shared.ended.get().is_some() {
                return Err(Errno::SHUTDOWN);
            }
            let mut request = Writer::default();
            change_to(&mut request, shared.number, sequence, config);
            shared.mailbox.socket.send(request.bytes())
        };
        let made = request(WAKE).map_err(io::Error::from).and_then(|()| {
            // nfqnl_enqueue_packet copies before it takes the queue's lock: a packet that was copied as before may still
            // come behind an answer. It is in an RCU section until it is on the socket, and this waits for the end of
            // all. Where a kernel cannot (nohz_full), those few instructions remain.
            let _ = membarrier(MembarrierCommand::Global);
            shared.mailbox.requests.make(request)
        });
        let made = made.and_then(|()| Ok(shared.mailbox.change(change)?));
        made.map_err(|error| OpenError::refused(format!("configure queue {}", shared.number), error))
    }

    /// Ends the loop, and returns at once. First what is in the queue gets its verdict, and what waits its answer,
    /// for as long as `patience` at most and `length` packets; what waits even then fails for [`Cause::Deadline`].
    /// Then the queue is let go. May be called again, with less patience.
    ///
    /// [`Cause::Deadline`]: crate::Cause::Deadline
    ///
    /// # Errors
    /// As `wake`.
    pub fn stop(&self, patience: Duration) -> io::Result<()> {
        Ok(self.shared.mailbox.stop(Instant::now() + patience.min(LONGEST))?)
    }

    /// Why the loop ended when nobody had stopped it; `None` while it runs, and after a stop.
    pub fn failure(&self) -> Option<&QueueError> {
        self.shared.ended.get()?.as_ref().err()
    }

    /// Waits for the loop's end. A second call returns the same, at the same time or later.
    ///
    /// # Errors
    /// See [`Handle::failure`].
    pub fn join(&self) -> Result<(), &QueueError> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // The loop's own panic has been caught; this is one of a drop after it, when the end is known already.
            let _ = thread.join();
        }
        drop(thread);
        self.failure().map_or(Ok(()), Err)
    }
}

impl<A> Drop for Handle<A> {
    fn drop(&mut self) {
        // A loop that could not be told is not waited for: it may be long until its next packet, which tells it.
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner);
        if thread.is_some() && self.stop(Duration::ZERO).is_ok() {
            let _ = self.join();
        }
    }
}

/// Where a queue's answers go, from any thread.
pub struct Answers<A>(Arc<Mailbox<A>>);

impl<A> Clone for Answers<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A> Answers<A> {
    /// Answers to questions, in any order; one for a ticket that has been answered, or waited too long, is counted.
    ///
    /// # Errors
    /// What the kernel says when it takes no request; the answers are taken in with the next packet then.
    pub fn give(&self, answers: impl IntoIterator<Item = (Ticket, A)>) -> io::Result<()> {
        Ok(self.0.give(answers)?)
    }
}
