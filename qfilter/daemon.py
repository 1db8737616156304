"""The composition root: a policy in force. The only file that wires the rooms together.

The order is what keeps a mistake from opening or closing the machine: the policy's tests pass, the queues are bound,
then the kernel rules are installed; at the end the rules are removed, what is queued gets its verdict, and then the
queues are let go. A crash in between leaves the rules, and with them the outcome of `no_listener`.
"""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from qfilter import firewall
from qfilter.compiler import compile_policy
from qfilter.engine.reference import ReferenceEngine
from qfilter.engine.selftest import run_tests
from qfilter.engine.summary import summary
from qfilter.errors import PolicyError, UnsupportedError
from qfilter.events.outputs import Outputs
from qfilter.events.record import EventType, event, verdict_event, worth_recording
from qfilter.model.packet import Packet
from qfilter.model.plan import Capabilities, Plan
from qfilter.model.policy import Backend, Policy, Target
from qfilter.model.report import Report
from qfilter.model.verdict import Verdict
from qfilter.netlink.capabilities import queue_flags
from qfilter.netlink.nfnetlink import ConfigFlag
from qfilter.netlink.queues import bound_queues
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
    """A plan in force, from `start` or the beginning of a `with` block to `close` or its end.

    Packets are judged in a thread of the service's own. Its methods may be called from any other thread.
    """

    def __init__(self, plan: Plan, outputs: Outputs | None = None, *, keep_rules: bool = False) -> None:
        self.plan = plan
        self._outputs = outputs or Outputs()
        self._keep_rules = keep_rules
        self._engine = ReferenceEngine(plan.policy)
        self._queues: tuple[PacketQueue, ...] = ()
        self._busy = threading.Lock()
        self._ended = threading.Event()
        self._stopping = False
        self._draining = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._told: Mapping[int, Mapping[str, object]] = {}
        self._looked = 0.0

    def start(self) -> None:
        """Bind, serve, install. Raises what any of it raises, and then nothing is left behind."""
        with ExitStack() as undo:
            self._queues = _open_queues(self.plan, undo)
            self._record(EventType.START, self._in_force())
            self._thread = threading.Thread(target=self._serve, name="qfilter-queues", daemon=True)
            self._thread.start()
            undo.callback(self._end_thread)
            if self.plan.kernel is not None:
                firewall.install(self.plan.kernel)
            undo.pop_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until `stop` was called or serving ended by itself; False after `timeout` seconds.

        Raises what ended it when that was not `stop`: a queue that is gone, for example.
        """
        ended = self._ended.wait(timeout)
        if self._failure is not None:
            raise self._failure
        return ended

    def stop(self) -> None:
        """Ask `wait` to return. Safe in a signal handler."""
        self._ended.set()

    def close(self) -> None:
        """Remove the rules, decide what is queued, let the queues go. A second call does nothing.

        Raises FirewallError when rules are left; the queues are let go all the same, so that what those rules queue
        has the outcome of `no_listener`.
        """
        self._ended.set()
        if self._thread is None:
            return
        try:
            if self.plan.kernel is not None and not self._keep_rules:
                firewall.remove()
                self._draining = True
        finally:
            self._end_thread()
            for queue in self._queues:
                queue.close()
            os.close(self._wake)
            self._record(EventType.STOP, self._totals())

    def report(self) -> Report:
        """What has been counted so far."""
        with self._busy:
            return self._engine.report()

    @property
    def queues(self) -> tuple[PacketQueue, ...]:
        """The bound queues, with their counters."""
        return self._queues

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake, selectors.EVENT_READ)
                for queue in self._queues:
                    selector.register(queue, selectors.EVENT_READ, queue)
                while not self._stopping:
                    for key, _ in selector.select(_LOOK_EVERY):
                        if key.data is not None:
                            self._receive(key.data)
                    self._look_for_losses()
            if self._draining:
                for queue in self._queues:
                    while self._receive(queue):
                        pass
        except BaseException as failure:  # noqa: BLE001 - `wait` raises it where somebody can act on it
            self._failure = failure
            self._ended.set()

    def _receive(self, queue: PacketQueue) -> int:
        with self._busy:
            return queue.receive(self._judge)

    def _judge(self, packet: Packet) -> Verdict:
        verdict = self._engine.decide(packet)
        if worth_recording(verdict):
            ends, policy = summary(self._engine, packet), self.plan.policy.digest
            self._outputs.put(verdict_event(verdict, packet, ends, policy=policy, now=time.time()))
        self._outputs.capture(packet, verdict)
        return verdict

    def _end_thread(self) -> None:
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _record(self, kind: EventType, values: Mapping[str, object]) -> None:
        self._outputs.put(event(kind, time.time(), {"policy": self.plan.policy.digest, **values}))

    def _in_force(self) -> Mapping[str, object]:
        policy, kernel = self.plan.policy, self.plan.kernel
        return {
            "file": policy.path,
            "queues": [queue.number for queue in self._queues],
            "backend": None if kernel is None else kernel.backend,
            "default": {hook: str(default.decision) for hook, default in policy.defaults.items()},
            "on_failure": dict(policy.on_failure),
            "copy_range": self.plan.copy_range,
        }

    def _totals(self) -> Mapping[str, object]:
        report = self._engine.report()
        outcome = self._outputs.outcome
        return {
            "packets": report.total.packets,
            "bytes": report.total.bytes,
            "verdicts": {kind: tally.packets for kind, tally in report.verdicts.items()},
            "queues": _losses(self._queues, {}),
            "events_lost": outcome.lost,
        }

    def _look_for_losses(self) -> None:
        """What the kernel lost is in no verdict: it becomes an event when it has grown."""
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        losses = _losses(self._queues, {number: row.dropped_full for number, row in bound_queues().items()})
        for number, values in losses.items():
            if values != self._told.get(number) and any(values.values()):
                self._record(EventType.QUEUE, {"queue": number, **values})
        self._told = losses


def _losses(queues: tuple[PacketQueue, ...], full: Mapping[int, int]) -> dict[int, Mapping[str, object]]:
    return {
        queue.number: {
            "queue_full": full.get(queue.number, 0),
            "socket_full": queue.counters.lost,
            "cut": queue.counters.truncated,
            "errors": {os.strerror(number): count for number, count in sorted(queue.counters.errors.items())},
            "failures": {str(cause): count for cause, count in sorted(queue.counters.failures.items())},
            "last_failure": queue.counters.last_failure,
        }
        for queue in queues
    }


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
