"""The composition root: a policy in force. The only file that wires the rooms together.

The order is what keeps a mistake from opening or closing the machine: the policy's tests pass, the queues are bound,
then the kernel rules are installed; at the end the rules are removed, what is queued gets its verdict, and then the
queues are let go. A failure in between leaves the rules, and with them the outcome of `no_listener`.
"""

from __future__ import annotations

import math
import os
import selectors
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

from qfilter import firewall
from qfilter.compiler import compile_policy
from qfilter.control import live
from qfilter.control.changes import changes, first_step, needs_restart
from qfilter.control.heritage import kept_flows
from qfilter.control.messages import Changed, ChangeSet, ElementState, Refused, Reloaded, Sets, Stats, Status
from qfilter.control.orders import Orders
from qfilter.control.place import listening
from qfilter.control.server import ControlServer
from qfilter.engine.base import Engine
from qfilter.engine.reference import ReferenceEngine
from qfilter.engine.selftest import run_tests
from qfilter.errors import (
    ControlError,
    FirewallError,
    PolicyError,
    PrivilegeError,
    QFilterError,
    QueueError,
    UnsupportedError,
)
from qfilter.events.outputs import Outputs
from qfilter.events.record import EventType, event, failure_event, rfc3339, verdict_event, worth_recording
from qfilter.firewall.watch import EVERY
from qfilter.model.packet import Packet
from qfilter.model.plan import Capabilities, KernelRules, Plan
from qfilter.model.policy import Backend, Policy, Target
from qfilter.model.report import Report
from qfilter.model.verdict import Verdict
from qfilter.netlink.capabilities import queue_flags
from qfilter.netlink.nfnetlink import ConfigFlag
from qfilter.netlink.queues import BoundQueue, bound_queues
from qfilter.policy.load import load
from qfilter.queues import ip_queue
from qfilter.queues.base import PacketQueue
from qfilter.queues.nfqueue import NfQueue

_LOOK_EVERY = 1.0
"""Seconds between two looks at what the queues lost."""
_MOST_PROBLEMS = 20
"""Of a refused policy, on standard error and in its event; who asked is told all."""


def capabilities(policy: Policy, *, install: bool = True) -> Capabilities:
    """What this machine can do. Raises PrivilegeError, and UnsupportedError on a kernel without any packet queue."""
    backends, problems = firewall.probe() if install else ({}, {})
    try:
        flags = queue_flags()
    except UnsupportedError:
        if policy.queue.target is not Target.QUEUE:
            raise
        return Capabilities(
            backends=backends, problems=problems, fail_open=False, unreadable=ip_queue.UNREADABLE, ip_queue=True
        )
    return Capabilities(
        backends=backends,
        problems=problems,
        fail_open=ConfigFlag.FAIL_OPEN in flags,
        unreadable=frozenset() if ConfigFlag.UID_GID in flags else frozenset({"uid", "gid"}),
    )


def prepare(policy: Policy, *, install: bool = True, backend: Backend | None = None) -> Plan:
    """The plan of a policy for this machine. Raises PolicyError also when one of the policy's own tests fails."""
    failures = run_tests(policy).failures
    if failures:
        raise PolicyError([failure.diagnostic() for failure in failures])
    return compile_policy(policy, capabilities(policy, install=install), install=install, backend=backend)


class Service:
    """A plan in force, from `start` or the beginning of a `with` block to `close` or its end. It serves once.

    Packets are judged in a thread of the service's own. Its methods may be called from any other thread of the same
    network namespace.
    """

    def __init__(
        self,
        plan: Plan,
        outputs: Outputs | None = None,
        *,
        keep_rules: bool = False,
        compare_every: float = EVERY,
        say: Callable[[str], None] | None = None,
        control: Path | None = None,
    ) -> None:
        """`compare_every` are the seconds between two looks at the kernel rules; `say` is told what an operator must
        know at once, in another thread; `control` is the path of the socket that the service answers at."""
        self.plan = plan
        self._outputs = outputs or Outputs()
        self._keep_rules = keep_rules
        self._compare_every = compare_every
        self._say = say
        self._control = control
        self._engine: Engine = ReferenceEngine(plan.policy)
        self._queues: tuple[PacketQueue, ...] = ()
        self._losses: tuple[Mapping[str, object], ...] = ()
        self._busy = threading.Lock()
        self._turn = threading.Lock()
        self._changing = threading.Lock()
        # Not an Event: its lock may be held by the very thread that a signal interrupts.
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._failure: BaseException | None = None
        self._stopping = False
        self._draining = False
        self._looked = 0.0
        self._unrecorded = 0
        self._installed: KernelRules | None = None
        self._watch: firewall.Watch | None = None
        self._reloads: Orders | None = None
        self._started = self._since = 0.0
        self._undo = ExitStack()

    def start(self) -> None:
        """Bind, serve, install. Raises what any of it raises, and then nothing is left behind."""
        with ExitStack() as undo:
            if self.plan.kernel is not None:
                undo.enter_context(firewall.lock())
            listener = None if self._control is None else undo.enter_context(listening(self._control))
            self._queues = _open_queues(self.plan, undo)
            for queue in self._queues:
                queue.own.tell = self._record_own
            self._losses = _lost(self._queues, {})
            self._record(EventType.START, self.in_force)
            undo.callback(self._record_stop)
            self._start_thread(undo)
            if self.plan.kernel is not None:
                self._install(self.plan.kernel)
                undo.callback(self._remove_rules)
                self._watch = self._start_watch(self.plan.kernel)
                undo.callback(self._close_watch)
            self._started = self._since = time.time()
            self._reloads = Orders(self.reload, name="qfilter-reload")
            undo.callback(self._reloads.close)
            if listener is not None:
                undo.callback(ControlServer(listener, self).close)
            self._undo = undo.pop_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until `stop` was called or serving ended by itself; False after `timeout` seconds.

        Raises what ended it when that was not `stop`: a queue that is gone, for example.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        while not self._has_ended(max(0.0, min(_LOOK_EVERY, until - time.monotonic()))):
            if time.monotonic() >= until:
                return False
        if self._failure is not None:
            raise self._failure
        return True

    def _has_ended(self, timeout: float) -> bool:
        # Never waits long: a signal that the kernel gave to another thread is handled only when this one wakes up.
        try:
            self._ended.get(timeout=timeout)
        except Empty:
            return False
        self._ended.put(None)
        return True

    def stop(self) -> None:
        """Ask `wait` to return. Safe in a signal handler."""
        self._ended.put(None)

    def repair(self) -> None:
        """Ask for the kernel rules to be installed again, where somebody changed them. Safe in a signal handler."""
        if self._watch is not None:
            self._watch.repair()

    def reload_soon(self) -> None:
        """Ask for the policy's file to be read and put in force again; `say` is told how that ended.

        Safe in a signal handler.
        """
        if self._reloads is not None:
            self._reloads.give()

    def reload(self, path: str | None = None) -> Reloaded | Refused:
        """Put the policy of a file in force, or the present one's file again, between two packets.

        A policy that does not load, fails its own tests, does not compile or needs a restart changes nothing. Dynamic
        sets, limits, counters and flows go on by name, see `control.heritage` for flows. Never raises.
        """
        with self._changing:
            file = self.plan.policy.path if path is None else path
            try:
                outcome = self._reload(file)
            except PolicyError as error:
                outcome = Refused(problem="", diagnostics=error.diagnostics)
            except (QFilterError, OSError) as error:
                outcome = Refused(problem=str(error))
            except Exception as fault:  # noqa: BLE001 - the next one may succeed
                outcome = Refused(problem=f"a fault of qfilter's own: {type(fault).__name__}: {fault}")
            self._tell_reload(file, outcome)
        return outcome

    def status(self) -> Status:
        """What is in force."""
        return Status(
            process=os.getpid(),
            engine=self._engine.name,
            digest=self.plan.policy.digest,
            started=rfc3339(self._started),
            since=rfc3339(self._since),
            in_force=self.in_force,
            queues=self._losses,
        )

    def stats(self) -> Stats:
        """What has been counted so far, and what the queues had lost a moment ago."""
        return Stats(report=self.report(), queues=self._losses)

    def sets(self) -> Sets:
        """Every set, and how much is in it."""
        with self._changing:
            return live.sets(self.plan.policy, self.report().sets)

    def elements(self, name: str) -> Iterator[ElementState] | Refused:
        """What is in a set at this moment."""
        try:
            with self._changing:
                return live.elements(self._engine, name, self._held)
        except ControlError as error:
            return Refused(problem=str(error))

    def change_set(self, change: ChangeSet) -> Changed | Refused:
        """Add to a dynamic set, take from it, or empty it."""
        try:
            with self._changing:
                return live.change(self._engine, change, self._held)
        except ControlError as error:
            return Refused(problem=str(error))

    def close(self) -> None:
        """Remove the rules, decide what is queued, let the queues go. A second call does nothing.

        After serving has failed the rules stay, and with them the outcome of `no_listener`. Raises FirewallError when
        rules are left that should not be; the queues are let go all the same, so that what those rules queue has that
        outcome too.
        """
        self.stop()
        self._undo.close()

    @property
    def failed(self) -> bool:
        """Whether serving ended by itself."""
        return self._failure is not None

    @property
    def queues(self) -> tuple[PacketQueue, ...]:
        """The bound queues, with their counters."""
        return self._queues

    @property
    def in_force(self) -> Mapping[str, object]:
        """What the `start` event says."""
        policy, kernel = self.plan.policy, self.plan.kernel
        return {
            "file": policy.path,
            "queues": list(dict.fromkeys(queue.number for queue in self._queues)),
            "backend": None if kernel is None else kernel.backend,
            "default": {hook: str(default.decision) for hook, default in policy.defaults.items()},
            "on_failure": dict(policy.on_failure),
            "copy_range": self.plan.copy_range,
        }

    @property
    def losses(self) -> tuple[Mapping[str, object], ...]:
        """What each queue had lost when it was last looked at, as the `queue` event says it."""
        return self._losses

    def report(self) -> Report:
        """What has been counted so far."""
        with self._held():
            return self._engine.report()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self._failure is not None:
            raise self._failure

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The engine and the queues for the calling thread. Whoever waits comes next, however busy the other is."""
        with self._turn:
            self._busy.acquire()
        try:
            yield
        finally:
            self._busy.release()

    def _reload(self, file: str) -> Reloaded | Refused:
        before = self.plan
        kernel = before.kernel
        plan = prepare(load(file), install=kernel is not None, backend=None if kernel is None else kernel.backend)
        if problems := needs_restart(before, plan):
            return Refused(problem="", diagnostics=problems)
        self._replace(plan)
        policy = plan.policy
        return Reloaded(
            file=policy.path,
            digest=policy.digest,
            changes=changes(before.policy, policy),
            warnings=policy.warnings,
        )

    def _replace(self, plan: Plan) -> None:
        """Raises what keeps the plan from being in force; the one before is then, in the kernel rules too."""
        before = self.plan
        with self._unwatched(watched=plan.kernel == before.kernel):
            try:
                self._bring_in(plan)
            except Exception as error:
                try:
                    self._bring_in(before)
                except QFilterError as worse:
                    raise FirewallError("reload", f"{error}\nand the old policy is not whole: {worse}") from None
                raise

    def _bring_in(self, plan: Plan) -> None:
        """Kernel rules that are right for both policies, then the new policy, then the kernel rules of that alone."""
        if plan.kernel is not None and self.plan.kernel is not None:
            self._install(first_step(self.plan.kernel, plan.kernel))
        self._switch(plan)
        if plan.kernel is not None:
            self._install(plan.kernel)

    def _switch(self, plan: Plan) -> None:
        engine: Engine = ReferenceEngine(plan.policy)
        engine.inherit(self._engine, kept_flows(self.plan.policy, plan.policy))
        settings = plan.policy.queue
        with self._held():
            for queue in self._queues:
                queue.configure(
                    copy_range=plan.copy_range,
                    length=settings.length,
                    fail_open=plan.fail_open,
                    socket_buffer=settings.socket_buffer,
                )
                # What waited was copied as far as the old policy looks, and may be of a hook that it alone has.
                queue.receive(self._judge)
            for queue in self._queues:
                queue.answer_by(mark_mask=plan.mark_mask, failure=plan.policy.on_failure)
            self.plan, self._engine, self._since = plan, engine, time.time()

    def _install(self, rules: KernelRules) -> None:
        if rules != self._installed:
            firewall.install(rules)
            self._installed = rules

    @contextmanager
    def _unwatched(self, *, watched: bool) -> Iterator[None]:
        """Without anybody who compares the kernel rules with the old policy's, unless they stay as they are."""
        if watched or self._watch is None:
            yield
            return
        self._watch.close()
        try:
            yield
        finally:
            if self.plan.kernel is not None:
                self._watch = self._start_watch(self.plan.kernel)

    def _start_watch(self, rules: KernelRules) -> firewall.Watch:
        return firewall.Watch(rules, self._tell_differences, every=self._compare_every)

    def _close_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()

    def _tell_reload(self, file: str, outcome: Reloaded | Refused) -> None:
        if isinstance(outcome, Reloaded):
            word, changed, problems = "reloaded", list(outcome.changes), list[str]()
            said = f"reloaded {file}"
        else:
            word, changed, problems = "refused", [], _problems(outcome)
            said = f"{file} refused: the policy before it stays in force"
        self._record(EventType.RELOAD, {"file": file, "outcome": word, "changes": changed, "problems": problems})
        if self._say is not None:
            for line in (*problems, said):
                self._say(line)

    def _start_thread(self, undo: ExitStack) -> None:
        wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        undo.callback(os.close, wake)
        thread = threading.Thread(target=self._serve, args=(wake,), name="qfilter-queues", daemon=True)

        def end() -> None:
            self._stopping = True
            os.eventfd_write(wake, 1)
            thread.join()

        thread.start()
        undo.callback(end)

    def _tell_differences(self, found: tuple[str, ...]) -> None:
        self._record(EventType.RULES, {"differences": list(found)})
        if self._say is not None:
            self._say(
                f"kernel rules differ: {firewall.summary(found)}" if found else "kernel rules are as they should be"
            )

    def _remove_rules(self) -> None:
        # To remove them because something broke would open what they close.
        if not self._keep_rules and not self.failed:
            firewall.remove()
            self._draining = True

    def _serve(self, wake: int) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(wake, selectors.EVENT_READ)
                for queue in self._queues:
                    selector.register(queue, selectors.EVENT_READ, queue)
                while not self._stopping:
                    for key, _ in selector.select(_LOOK_EVERY):
                        if key.data is not None:
                            self._receive(key.data)
                    self._look_for_losses()
            if self._draining:
                for queue in self._queues:
                    self._drain(queue)
        except BaseException as failure:  # noqa: BLE001 - `wait` raises it where somebody can act on it
            self._failure = failure
            self._ended.put(None)

    def _receive(self, queue: PacketQueue) -> int:
        with self._held():
            return queue.receive(self._judge)

    def _drain(self, queue: PacketQueue) -> None:
        """What waits at most: somebody else's rules may go on filling the queue."""
        left = self.plan.policy.queue.length
        while left > 0 and (judged := self._receive(queue)):
            left -= judged

    def _judge(self, packet: Packet) -> Verdict:
        verdict = self._engine.decide(packet)
        try:
            self._record_verdict(packet, verdict)
        except Exception:  # noqa: BLE001 - the verdict stands: a drop that cannot be told is not an error to accept
            self._unrecorded += 1
        return verdict

    def _record_own(self, packet: Packet | None, verdict: Verdict) -> None:
        """A verdict of the queue itself; of a message that was cut no packet is known."""
        if packet is not None:
            self._record_verdict(packet, verdict)
        else:
            self._outputs.put(failure_event(verdict, policy=self.plan.policy.digest, now=time.time()))

    def _record_verdict(self, packet: Packet, verdict: Verdict) -> None:
        if worth_recording(verdict):
            ends, policy = self._engine.summary(packet), self.plan.policy.digest
            self._outputs.put(verdict_event(verdict, packet, ends, policy=policy, now=time.time()))
        self._outputs.capture(packet, verdict)

    def _record(self, kind: EventType, values: Mapping[str, object]) -> None:
        self._outputs.put(event(kind, time.time(), {"policy": self.plan.policy.digest, **values}))

    def _record_stop(self) -> None:
        self._losses = _lost(self._queues, _bound() or {})
        report = self._engine.report()
        totals = {
            "packets": report.total.packets,
            "bytes": report.total.bytes,
            "verdicts": {kind: tally.packets for kind, tally in report.verdicts.items()},
            "queues": list(self._losses),
            "events_lost": self._outputs.outcome.lost + self._unrecorded,
        }
        self._record(EventType.STOP, totals)

    def _look_for_losses(self) -> None:
        """What the kernel lost is in no verdict: it becomes an event when it has grown.

        Raises QueueError for a queue that is not ours any more.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        bound = _bound()
        if bound is None:
            return
        for queue in self._queues:
            if queue.family is None and queue.number not in bound:
                raise QueueError(f"serve queue {queue.number}", "it is no longer bound")
        losses = _lost(self._queues, bound)
        for each, before in zip(losses, self._losses, strict=True):
            if each != before:
                self._record(EventType.QUEUE, each)
        self._losses = losses


def _problems(refused: Refused) -> list[str]:
    found = [str(diagnostic) for diagnostic in refused.diagnostics[:_MOST_PROBLEMS]]
    more = len(refused.diagnostics) - len(found)
    return [*found, *([f"and {more:,} more"] if more else []), *([refused.problem] if refused.problem else [])]


def _bound() -> Mapping[int, BoundQueue] | None:
    """The kernel's table of queues; None while no descriptor is left to read it, and for whoever is not root.

    Verdicts need neither, and go on.
    """
    try:
        return bound_queues()
    except (OSError, PrivilegeError):
        return None


def _lost(queues: tuple[PacketQueue, ...], bound: Mapping[int, BoundQueue]) -> tuple[Mapping[str, object], ...]:
    """Per queue: what the kernel dropped or let past, and what the queue decided or cut itself. In packets."""
    rows = [bound.get(queue.number) if queue.family is None else None for queue in queues]
    return tuple(
        {
            "queue": queue.number,
            "family": queue.family,
            "queue_full": row.dropped_full if row else 0,
            # The queue sees a gap when the next packet comes, the kernel at once; what it lets past it does not count.
            "socket_full": max(queue.counters.lost, row.dropped_socket if row else 0),
            "cut": queue.counters.truncated,
            "errors": {os.strerror(number): count for number, count in sorted(queue.counters.errors.items())},
            "failures": {str(cause): count for cause, count in sorted(queue.counters.failures.items())},
            "last_failure": queue.counters.last_failure,
        }
        for queue, row in zip(queues, rows, strict=True)
    )


def _open_queues(plan: Plan, undo: ExitStack) -> tuple[PacketQueue, ...]:
    """Every queue of the plan, or none."""
    settings, failure = plan.policy.queue, plan.policy.on_failure
    opened: list[PacketQueue] = []
    if plan.ip_queue:
        for family in firewall.families():
            queue = ip_queue.IpQueue.open(
                copy_range=plan.copy_range, family=family, socket_buffer=settings.socket_buffer, failure=failure
            )
            undo.callback(queue.close)
            opened.append(queue)
        return tuple(opened)
    for number in range(settings.first, settings.last + 1):
        bound = NfQueue.open(
            number,
            length=settings.length,
            copy_range=plan.copy_range,
            socket_buffer=settings.socket_buffer,
            fail_open=plan.fail_open,
            mark_mask=plan.mark_mask,
            failure=failure,
        )
        undo.callback(bound.close)
        opened.append(bound)
    return tuple(opened)
