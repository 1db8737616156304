//! The judge of a queue: the engine in force, asked by the queue's own thread. Python is not in the way.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, bounded};
use qfilter_core::engine::{Desk, Engine, Now, Outcome, Suspended};
use qfilter_core::packet::{Hook, Packet};
use qfilter_core::plan::{Decision, Kind};
use qfilter_core::state::tallies::{Tallies, Totals};
use qfilter_core::value::{self, Truth, Unknown, What};
use qfilter_core::verdict::{Detail, Effect, Reason, Verdict};
use qfilter_queue::{Cause, Final, Judge, Judged, Queued, Ticket};

use crate::answer::answer;
use crate::engine::lock;
use crate::packet::{Owned, SPELLED, spell};

/// Events that wait for their reader at most, and the bytes of packets in them.
const MOST_EVENTS: usize = 8_192;
const MOST_BYTES: usize = 32 << 20;
/// Bytes of a packet that an event needs: its headers.
const HEADERS: usize = 1_024;
/// Questions that wait for an answerer at most, of all queues together.
const MOST_QUESTIONS: usize = 4_096;

/// The text of a hardware address: NFQUEUE tells at most 8 bytes of it.
type Spelled = [u8; 8 * SPELLED];

/// An engine with its number: which policy a question or an event belongs to.
pub struct InForce {
    pub engine: Arc<Engine>,
    pub number: u64,
    /// What each queue's thread has counted with it.
    tallies: Mutex<HashMap<u16, Arc<Tallies>>>,
}

impl InForce {
    pub fn new(engine: Arc<Engine>, number: u64) -> Self {
        Self {
            engine,
            number,
            tallies: Mutex::default(),
        }
    }

    /// A desk for a queue's thread, which may come back: it goes on with its counts.
    fn desk(&self, queue: u16) -> Desk {
        let mut tallies = lock(&self.tallies);
        let counts = tallies.entry(queue).or_insert_with(|| Arc::new(self.engine.tallies()));
        self.engine.desk_with(Arc::clone(counts))
    }

    /// What all threads have counted with it.
    pub fn totals(&self) -> Totals {
        // Before any thread has counted there are zeros.
        let zeros = self.engine.tallies();
        Tallies::sum(lock(&self.tallies).values().map(|each| &**each).chain([&zeros]))
    }
}

/// What became of one packet, for whoever records it.
pub struct Event {
    pub packet: Option<Owned>,
    pub engine: u64,
    pub verdict: Verdict,
    pub effects: Box<[Effect]>,
    pub words: String,
}

/// What only Python can tell: the whole match of a rule for a packet.
pub struct Question {
    pub queue: u16,
    pub ticket: Ticket,
    pub engine: u64,
    pub rule: u32,
    pub mark: u32,
    pub monotonic: i64,
    pub packet: Owned,
}

/// A truth, or a cause with its words.
pub struct Told {
    pub truth: Truth,
    pub words: String,
}

/// What the queues of one service have in common.
pub struct Shared {
    pub in_force: ArcSwap<InForce>,
    events: (Sender<Event>, Receiver<Event>),
    event_bytes: AtomicUsize,
    /// Events that found no room.
    pub events_lost: AtomicU64,
    questions: (Sender<Question>, Receiver<Question>),
    /// The first engine whose rejects the kernel rules answer. A reject of one before it is repeated through a chain that
    /// may not have its REJECT rule, and would pass.
    answered: AtomicU64,
}

/// See [`Shared::answered`]: no engine's.
const NOBODY: u64 = u64::MAX;

impl Shared {
    pub fn new(in_force: Arc<InForce>) -> Self {
        Self {
            in_force: ArcSwap::new(in_force),
            events: bounded(MOST_EVENTS),
            event_bytes: AtomicUsize::new(0),
            events_lost: AtomicU64::new(0),
            questions: bounded(MOST_QUESTIONS),
            answered: AtomicU64::new(0),
        }
    }

    /// Whether the kernel rules answer what the engine in force rejects, from now on; else that is dropped. What earlier
    /// ones reject is dropped after such a pause.
    pub fn answer_rejects(&self, answered: bool) {
        let first = if answered { self.in_force.load().number } else { NOBODY };
        self.answered.store(first, SeqCst);
    }

    pub fn questions(&self) -> &Receiver<Question> {
        &self.questions.1
    }

    pub fn events(&self) -> &Receiver<Event> {
        &self.events.1
    }

    /// The reader has taken an event out.
    pub fn taken(&self, event: &Event) {
        self.event_bytes
            .fetch_sub(event.packet.as_ref().map_or(0, Owned::size), Relaxed);
    }

    /// Verdicts never wait for their record: the newest is dropped and counted when nobody reads.
    fn record(&self, event: Event) {
        let size = event.packet.as_ref().map_or(0, Owned::size);
        if self.event_bytes.fetch_add(size, Relaxed) + size > MOST_BYTES || self.events.0.try_send(event).is_err() {
            self.event_bytes.fetch_sub(size, Relaxed);
            self.events_lost.fetch_add(1, Relaxed);
        }
    }
}

/// Verdicts that a queue's judge could not give the kernel.
#[derive(Default)]
pub struct Refused {
    /// How many packets were dropped instead.
    pub count: AtomicU64,
    /// Why the last one was.
    pub last: Mutex<String>,
}

/// Decides the packets of one queue.
pub struct PolicyJudge {
    shared: Arc<Shared>,
    refused: Arc<Refused>,
    current: Arc<InForce>,
    desk: Desk,
    now: Now,
    queue: u16,
    hwaddr: Spelled,
}

/// A packet that waits, with the engine that it met: its rules go on with it, whatever policy has come since.
pub struct Waits {
    in_force: Arc<InForce>,
    suspended: Suspended,
}

impl PolicyJudge {
    pub fn new(shared: Arc<Shared>, refused: Arc<Refused>, queue: u16) -> Self {
        let current = shared.in_force.load_full();
        let desk = current.desk(queue);
        Self {
            shared,
            refused,
            current,
            desk,
            now: now(),
            queue,
            hwaddr: Spelled::default(),
        }
    }

    /// Gives the one before.
    fn change_to(&mut self, in_force: Arc<InForce>) -> Arc<InForce> {
        self.desk = in_force.desk(self.queue);
        std::mem::replace(&mut self.current, in_force)
    }

    /// Does something by an engine that may be an older one; the present one is there again after it, after a panic too.
    fn by<T>(&mut self, in_force: Arc<InForce>, work: impl FnOnce(&mut Self) -> T) -> T {
        if in_force.number == self.current.number {
            return work(self);
        }
        let present = self.change_to(in_force);
        let done = catch_unwind(AssertUnwindSafe(|| work(self)));
        self.change_to(present);
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// The kernel's answer to a verdict, recorded where it is worth it.
    fn end(&mut self, queued: &Queued<'_>, verdict: &Verdict, words: &str) -> Final {
        let effects = std::mem::take(&mut self.desk.effects);
        if !effects.is_empty() || matches!(verdict.reason, Reason::Cause(_)) {
            let captured = effects.iter().any(|effect| self.current.engine.captures(*effect));
            self.shared.record(Event {
                packet: Some(owned(queued, if captured { usize::MAX } else { HEADERS })),
                engine: self.current.number,
                verdict: *verdict,
                effects: effects.as_slice().into(),
                words: words.to_owned(),
            });
        }
        self.desk.effects = effects;
        if verdict.decision.kind == Kind::Reject && self.current.number < self.shared.answered.load(SeqCst) {
            return Final::DROP;
        }
        answer(verdict, queued.mark, self.current.engine.mark_mask(), self.queue)
            .unwrap_or_else(|words| self.refuse(queued, &words))
    }

    /// Drops what no kernel takes: what was to be rejected or marked must not pass as it is.
    fn refuse(&self, queued: &Queued<'_>, words: &str) -> Final {
        let decision = Decision {
            kind: Kind::Drop,
            argument: 0,
        };
        let verdict = Verdict {
            decision,
            ..self.current.engine.failure(value::Cause::Error, Detail::None)
        };
        self.record_own(Some(queued), verdict, words);
        self.refused.count.fetch_add(1, Relaxed);
        words.clone_into(&mut lock(&self.refused.last));
        Final::DROP
    }

    fn record_own(&self, queued: Option<&Queued<'_>>, verdict: Verdict, words: &str) {
        self.shared.record(Event {
            packet: queued.map(|queued| owned(queued, HEADERS)),
            engine: self.current.number,
            verdict,
            effects: Box::default(),
            words: words.to_owned(),
        });
    }

    fn goes_on(&mut self, queued: &Queued<'_>, outcome: Outcome, words: &str) -> Judged<Waits> {
        match outcome {
            Outcome::Verdict(verdict) => Judged::Final(self.end(queued, &verdict, words)),
            Outcome::Ask(suspended) => Judged::Wait(Waits {
                in_force: Arc::clone(&self.current),
                suspended,
            }),
        }
    }
}

impl Judge for PolicyJudge {
    type Suspended = Waits;
    type Answer = Told;
    type Policy = Arc<InForce>;

    fn begin_batch(&mut self) {
        let in_force = self.shared.in_force.load();
        if in_force.number != self.current.number {
            let in_force = Arc::clone(&in_force);
            self.change_to(in_force);
        }
        self.now = now();
    }

    fn judge(&mut self, packet: &Queued<'_>) -> Judged<Waits> {
        let mark_mask = self.current.engine.mark_mask();
        if packet.mark & mark_mask != 0 {
            // Rejected already, and no REJECT rule took it: judged again it would come back for ever.
            let words = format!("mark {:#x}: bits of {mark_mask:#x} were set on arrival", packet.mark);
            return Judged::Final(self.refuse(packet, &words));
        }
        let hwaddr = packet.hwaddr.map(|address| spell(address, &mut self.hwaddr));
        let outcome = self
            .current
            .engine
            .decide(&view(packet, hwaddr), self.now, &mut self.desk);
        self.goes_on(packet, outcome, "")
    }

    fn policy(&mut self) -> Arc<InForce> {
        Arc::clone(&self.current)
    }

    fn judge_by(&mut self, policy: Arc<InForce>, packet: &Queued<'_>) -> Judged<Waits> {
        self.by(policy, |judge| judge.judge(packet))
    }

    fn flow(&mut self, packet: &Queued<'_>) -> u64 {
        self.current.engine.flow_number(&view(packet, None))
    }

    fn ask(&mut self, ticket: Ticket, packet: &Queued<'_>, waits: &Waits) -> bool {
        let Waits { in_force, suspended } = waits;
        let question = Question {
            queue: self.queue,
            ticket,
            engine: in_force.number,
            rule: suspended.rule,
            mark: suspended.mark,
            monotonic: suspended.now.monotonic,
            packet: owned(packet, usize::MAX),
        };
        self.shared.questions.0.try_send(question).is_ok()
    }

    fn resume(&mut self, packet: &Queued<'_>, waits: Waits, answer: Result<Told, Cause>) -> Judged<Waits> {
        let Told { truth, words } = answer.unwrap_or_else(|cause| Told {
            truth: Truth::Unknown(Unknown {
                cause: cause_of(cause),
                what: What::Said,
            }),
            words: format!(
                "no answer for rule {}",
                waits.in_force.engine.rule_id(waits.suspended.rule)
            ),
        });
        self.by(waits.in_force, |judge| {
            let hwaddr = packet.hwaddr.map(|address| spell(address, &mut judge.hwaddr));
            let packet_seen = view(packet, hwaddr);
            let outcome = judge
                .current
                .engine
                .resume(&packet_seen, waits.suspended, truth, &mut judge.desk);
            judge.goes_on(packet, outcome, &words)
        })
    }

    fn fail(&mut self, cause: Cause, packet: Option<&Queued<'_>>, words: &str) -> Final {
        // After a panic nothing of the desk is trusted but its counts.
        if cause == Cause::Error {
            self.desk = self.current.engine.desk_with(Arc::clone(&self.desk.tallies));
        }
        let verdict = self.current.engine.failure(cause_of(cause), Detail::None);
        // A packet that was to wait behind another one counts as that one would.
        if let (Cause::Overload | Cause::Deadline, Some(packet)) = (cause, packet) {
            self.current
                .engine
                .count_failure(cause_of(cause), packet.wire_length.into(), &self.desk.tallies);
        }
        self.record_own(packet, verdict, words);
        if verdict.decision.kind == Kind::Accept {
            Final::ACCEPT
        } else {
            Final::DROP
        }
    }
}

fn cause_of(cause: Cause) -> value::Cause {
    match cause {
        Cause::Malformed => value::Cause::Malformed,
        Cause::Truncated => value::Cause::Truncated,
        Cause::Error => value::Cause::Error,
        Cause::Overload => value::Cause::Overload,
        Cause::Deadline => value::Cause::Deadline,
    }
}

/// The clock of the core, which Python's `time.monotonic_ns` is too.
pub fn now() -> Now {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64());
    Now {
        monotonic: time.tv_sec * 1_000_000_000 + time.tv_nsec,
        wall,
    }
}

fn view<'a>(queued: &Queued<'a>, hwaddr: Option<&'a [u8]>) -> Packet<'a> {
    Packet {
        data: queued.payload,
        // The loop lets no other hook through.
        hook: Hook::from_number(queued.hook).unwrap_or(Hook::Prerouting),
        wire_length: queued.wire_length.into(),
        iifname: queued.iifname,
        oifname: queued.oifname,
        physin: queued.physin,
        physout: queued.physout,
        mark: queued.mark,
        uid: queued.uid,
        gid: queued.gid,
        ct_state: Some(queued.ct_state()),
        ct_mark: queued.conntrack.map(|conntrack| conntrack.mark),
        hwaddr,
        timestamp: queued.timestamp.map(|since| since.as_secs_f64()),
        checksum_ready: queued.checksum_ready,
    }
}

/// A packet that outlives its message, with so many of its bytes at most.
fn owned(queued: &Queued<'_>, most: usize) -> Owned {
    let mut memory = Spelled::default();
    let hwaddr = queued.hwaddr.map(|address| spell(address, &mut memory));
    let whole = view(queued, hwaddr);
    Owned::copy(&Packet {
        data: &whole.data[..whole.data.len().min(most)],
        ..whole
    })
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use qfilter_core::plan::Plan;

    use super::*;

    fn decided(judged: Judged<Waits>) -> Final {
        match judged {
            Judged::Final(decided) => decided,
            Judged::Wait(_) => panic!("it waits"),
        }
    }

    /// IPv4 without a payload, on forward.
    fn packet() -> Queued<'static> {
        Queued {
            hook: 2,
            wire_length: 20,
            checksum_ready: true,
            payload: &[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2],
            ..Queued::default()
        }
    }

    const MARK_MASK: u32 = 0xF000_0000;

    /// An engine that does the same with every packet.
    fn in_force(number: u64, kind: Kind) -> Arc<InForce> {
        let decision = Decision {
            kind,
            argument: u16::from(kind == Kind::Reject),
        };
        let plan = Plan {
            mark_mask: MARK_MASK,
            defaults: [Some(decision); 5],
            ..Plan::default()
        };
        Arc::new(InForce::new(
            Arc::new(Engine::new(plan, TimeZone::UTC).unwrap()),
            number,
        ))
    }

    /// A judge that met the first policy, which accepts, and has the second, which drops; and the first.
    fn after_a_reload() -> (PolicyJudge, Arc<InForce>) {
        let shared = Arc::new(Shared::new(in_force(0, Kind::Accept)));
        let mut judge = PolicyJudge::new(Arc::clone(&shared), Arc::default(), 0);
        judge.begin_batch();
        let met = judge.policy();
        shared.in_force.store(in_force(1, Kind::Drop));
        judge.begin_batch();
        (judge, met)
    }

    #[test]
    fn a_packet_is_judged_and_counted_by_the_policy_that_it_met() {
        let (mut judge, met) = after_a_reload();
        assert_eq!(decided(judge.judge_by(Arc::clone(&met), &packet())), Final::ACCEPT);
        assert_eq!(decided(judge.judge(&packet())), Final::DROP);
        let present = judge.policy();
        assert_eq!(decided(judge.judge_by(present, &packet())), Final::DROP);
        let counted = |each: &InForce| each.totals().defaults[2].packets;
        assert_eq!((counted(&met), counted(&judge.current)), (1, 2));
    }

    /// Repeated through a chain without its REJECT rule, it would pass.
    #[test]
    fn a_reject_that_the_kernel_rules_do_not_answer_is_a_drop() {
        let shared = Arc::new(Shared::new(in_force(0, Kind::Reject)));
        let mut judge = PolicyJudge::new(Arc::clone(&shared), Arc::default(), 0);
        let met = judge.policy();
        let answered = Final::REPEAT.with_mark(MARK_MASK & MARK_MASK.wrapping_neg());
        assert_eq!(decided(judge.judge(&packet())), answered);
        shared.answer_rejects(false);
        assert_eq!(decided(judge.judge(&packet())), Final::DROP);
        shared.in_force.store(in_force(1, Kind::Reject));
        judge.begin_batch();
        assert_eq!(decided(judge.judge(&packet())), Final::DROP);
        shared.answer_rejects(true);
        assert_eq!(decided(judge.judge(&packet())), answered);
        assert_eq!(decided(judge.judge_by(met, &packet())), Final::DROP);
    }

    #[test]
    fn after_a_panic_with_an_older_policy_the_present_one_judges() {
        let (mut judge, met) = after_a_reload();
        let panicked = catch_unwind(AssertUnwindSafe(|| judge.by(met, |_| panic!("in an old rule"))));
        assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "in an old rule");
        assert_eq!(decided(judge.judge(&packet())), Final::DROP);
        assert_eq!(judge.current.number, 1);
    }
}
