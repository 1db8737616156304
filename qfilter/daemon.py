"""The composition root: a policy in force. The only file that wires the rooms together.

The order is what keeps a mistake from opening or closing the machine: the policy's tests pass, the queues are bound,
then the kernel rules are installed; at the end the rules are removed, what is queued gets its verdict, and then the
queues are let go. A failure in between leaves the rules, and with them the outcome of `no_listener`.
"""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

from qfilter import firewall
from qfilter.compiler import compile_policy
from qfilter.engine.reference import ReferenceEngine
from qfilter.engine.selftest import run_tests
from qfilter.engine.summary import summary
from qfilter.errors import PolicyError, QueueError, UnsupportedError
from qfilter.events.outputs import Outputs
from qfilter.events.record import EventType, event, verdict_event, worth_recording
from qfilter.model.packet import Packet
from qfilter.model.plan import Capabilities, Plan
from qfilter.model.policy import Backend, Policy, Target
from qfilter.model.report import Report
from qfilter.model.verdict import Verdict
from qfilter.netlink.capabilities import queue_flags
from qfilter.netlink.nfnetlink import ConfigFlag
from qfilter.netlink.queues import BoundQueue, bound_queues
from qfilter.queues import ip_queue
from qfilter.queues.base import PacketQueue
from qfilter.queues.nfqueue import NfQueue

_LOOK_EVERY = 1.0
"""Seconds between two looks at what the queues lost."""


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

    def __init__(self, plan: Plan, outputs: Outputs | None = None, *, keep_rules: bool = False) -> None:
        self.plan = plan
        self._outputs = outputs or Outputs()
        self._keep_rules = keep_rules
        self._engine = ReferenceEngine(plan.policy)
        self._queues: tuple[PacketQueue, ...] = ()
        self._losses: tuple[Mapping[str, object], ...] = ()
        self._busy = threading.Lock()
        # Not an Event: its lock may be held by the very thread that a signal interrupts.
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._failure: BaseException | None = None
        self._stopping = False
        self._draining = False
        self._looked = 0.0
        self._undo = ExitStack()

    def start(self) -> None:
        """Bind, serve, install. Raises what any of it raises, and then nothing is left behind."""
        with ExitStack() as undo:
            if self.plan.kernel is not None:
                undo.enter_context(firewall.lock())
            self._queues = _open_queues(self.plan, undo)
            self._losses = _lost(self._queues, {})
            self._record(EventType.START, self.in_force)
            undo.callback(self._record_stop)
            self._start_thread(undo)
            if self.plan.kernel is not None:
                firewall.install(self.plan.kernel)
                undo.callback(self._remove_rules)
            self._undo = undo.pop_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until `stop` was called or serving ended by itself; False after `timeout` seconds.

        Raises what ended it when that was not `stop`: a queue that is gone, for example.
        """
        try:
            self._ended.get(timeout=timeout)
        except Empty:
            return False
        self._ended.put(None)
        if self._failure is not None:
            raise self._failure
        return True

    def stop(self) -> None:
        """Ask `wait` to return. Safe in a signal handler."""
        self._ended.put(None)

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
        with self._busy:
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
        with self._busy:
            return queue.receive(self._judge)

    def _drain(self, queue: PacketQueue) -> None:
        """What waits at most: somebody else's rules may go on filling the queue."""
        left = self.plan.policy.queue.length
        while left > 0 and (judged := self._receive(queue)):
            left -= judged

    def _judge(self, packet: Packet) -> Verdict:
        verdict = self._engine.decide(packet)
        if worth_recording(verdict):
            ends, policy = summary(self._engine, packet), self.plan.policy.digest
            self._outputs.put(verdict_event(verdict, packet, ends, policy=policy, now=time.time()))
        self._outputs.capture(packet, verdict)
        return verdict

    def _record(self, kind: EventType, values: Mapping[str, object]) -> None:
        self._outputs.put(event(kind, time.time(), {"policy": self.plan.policy.digest, **values}))

    def _record_stop(self) -> None:
        self._losses = _lost(self._queues, bound_queues())
        report = self._engine.report()
        totals = {
            "packets": report.total.packets,
            "bytes": report.total.bytes,
            "verdicts": {kind: tally.packets for kind, tally in report.verdicts.items()},
            "queues": list(self._losses),
            "events_lost": self._outputs.outcome.lost,
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
        bound = bound_queues()
        for queue in self._queues:
            if queue.family is None and queue.number not in bound:
                raise QueueError(f"serve queue {queue.number}", "it is no longer bound")
        losses = _lost(self._queues, bound)
        for each, before in zip(losses, self._losses, strict=True):
            if each != before:
                self._record(EventType.QUEUE, each)
        self._losses = losses


def _lost(queues: tuple[PacketQueue, ...], bound: Mapping[int, BoundQueue]) -> tuple[Mapping[str, object], ...]:
    """Per queue: what the kernel dropped or let past, and what the queue decided or cut itself. In packets."""
    return tuple(
        {
            "queue": queue.number,
            "family": queue.family,
            "queue_full": bound[queue.number].dropped_full if queue.family is None and queue.number in bound else 0,
            "socket_full": queue.counters.lost,
            "cut": queue.counters.truncated,
            "errors": {os.strerror(number): count for number, count in sorted(queue.counters.errors.items())},
            "failures": {str(cause): count for cause, count in sorted(queue.counters.failures.items())},
            "last_failure": queue.counters.last_failure,
        }
        for queue in queues
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
