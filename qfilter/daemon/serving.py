"""The loop around an engine by call: one Python thread reads all queues and judges each packet. For any kernel."""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Protocol

from qfilter import firewall
from qfilter.daemon.losses import LOOK_EVERY, LossWatch
from qfilter.daemon.recorder import Recorder
from qfilter.engine.base import Engine
from qfilter.errors import QueueError
from qfilter.model.packet import Packet
from qfilter.model.plan import Plan
from qfilter.model.report import Report
from qfilter.model.verdict import Decision, Kind, Verdict
from qfilter.queues.base import CountedQueue, PacketQueue
from qfilter.queues.ip_queue import IpQueue
from qfilter.queues.nfqueue import NfQueue

_SENDING = 1.0
"""Seconds in which a reject that is given must be sent too."""

Ended = Callable[[BaseException], None]
"""Told why serving has ended by itself."""


class Serving(Protocol):
    """Bound queues and who judges their packets."""

    @property
    def queues(self) -> Sequence[CountedQueue]:
        """The bound queues, with their counters."""

    @property
    def warnings(self) -> Sequence[str]:
        """What the operator should know: settings that the kernel did not take as wanted."""

    def start(self, watch: LossWatch, ended: Ended) -> None:
        """Serve from now on, in threads of its own."""

    def stop(self, *, drain: bool) -> None:
        """Serve no longer; with `drain` what is queued gets its verdict first."""

    def held(self) -> AbstractContextManager[None]:
        """The engine's live sets for the calling thread."""

    def configure(self, plan: Plan) -> None:
        """The queues' settings of another plan; returns when what was copied by those before has been judged, or waits.

        Raises QueueError, and then some queues may have some of the settings.
        """

    def answer_rejects(self, answered: bool) -> None:
        """Whether the kernel rules answer what is rejected. Where they may not, it is dropped: repeated through a chain
        without its REJECT rule it would pass. When this returns, no reject from before is on its way.

        Raises QueueError where that cannot be known.
        """

    def switch(self, plan: Plan, engine: Engine) -> None:
        """Another policy: what the queues copy from now on, it judges."""

    def report(self) -> Report:
        """What has been counted so far."""


class ServingByCall:
    """Any engine, and any queue that hands packets over one by one."""

    def __init__(self, plan: Plan, engine: Engine, recorder: Recorder, undo: ExitStack) -> None:
        """Binds the queues; `undo` lets them go."""
        self.engine = engine
        self._plan = plan
        self._recorder = recorder
        self.queues: tuple[PacketQueue, ...] = open_queues(plan, undo)
        for queue in self.queues:
            queue.own.tell = self._record_own
        self._busy = threading.Lock()
        self._turn = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        undo.callback(os.close, self._wake)
        self._stopping = self._draining = False
        self._answered = True
        self._sent = threading.Event()
        self._sent.set()
        self._thread: threading.Thread | None = None

    @property
    def warnings(self) -> Sequence[str]:
        """See Serving."""
        return [warning for queue in self.queues for warning in queue.warnings]

    def start(self, watch: LossWatch, ended: Ended) -> None:
        """See Serving."""
        self._thread = threading.Thread(target=self._serve, args=(watch, ended), name="qfilter-queues", daemon=True)
        self._thread.start()

    def stop(self, *, drain: bool) -> None:
        """See Serving."""
        self._draining, self._stopping = drain, True
        os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The engine and the queues for the calling thread. Whoever waits comes next, however busy the other is."""
        with self._turn:
            self._busy.acquire()
        try:
            yield
        finally:
            self._busy.release()

    def configure(self, plan: Plan) -> None:
        """See Serving."""
        settings = plan.policy.queue
        with self.held():
            for queue in self.queues:
                queue.configure(
                    copy_range=plan.copy_range,
                    length=settings.length,
                    fail_open=plan.fail_open,
                    conntrack=plan.conntrack,
                    socket_buffer=settings.socket_buffer,
                )
                self._receive(queue)

    def answer_rejects(self, answered: bool) -> None:
        """See Serving."""
        self._answered = answered
        # Not `held`: a condition that hangs must not keep the kernel rules from being removed. Its packet is no danger:
        # `_judge` looks at `_answered` after it.
        if not answered and not self._sent.wait(_SENDING):
            raise QueueError("answer no rejects", "one that was given before is still not sent")

    def switch(self, plan: Plan, engine: Engine) -> None:
        """See Serving."""
        with self.held():
            for queue in self.queues:
                queue.answer_by(mark_mask=plan.mark_mask, failure=plan.policy.on_failure)
            self._plan, self.engine = plan, engine

    def report(self) -> Report:
        """See Serving."""
        with self.held():
            return self.engine.report()

    def _serve(self, watch: LossWatch, ended: Ended) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake, selectors.EVENT_READ)
                for queue in self.queues:
                    selector.register(queue, selectors.EVENT_READ, queue)
                while not self._stopping:
                    for key, _ in selector.select(LOOK_EVERY):
                        if key.data is not None:
                            self.receive(key.data)
                    watch.look()
            if self._draining:
                for queue in self.queues:
                    self.drain(queue)
        except BaseException as failure:  # noqa: BLE001 - it is raised where somebody can act on it
            ended(failure)

    def receive(self, queue: PacketQueue) -> int:
        """Judge what is waiting in a queue; how many packets that were."""
        with self.held():
            return self._receive(queue)

    def drain(self, queue: PacketQueue) -> None:
        """What waits at most: somebody else's rules may go on filling the queue."""
        left = self._plan.policy.queue.length
        while left > 0 and (judged := self.receive(queue)):
            left -= judged

    def _receive(self, queue: PacketQueue) -> int:
        try:
            return queue.receive(self._judge)
        finally:
            self._sent.set()

    def _judge(self, packet: Packet) -> Verdict:
        self._sent.set()  # a queue sends each verdict before it asks for the next
        verdict = self.engine.decide(packet)
        self._recorder.verdict(self.engine, packet, verdict)
        if verdict.decision.kind is not Kind.REJECT:
            return verdict
        self._sent.clear()  # before the look: whoever sets `_answered` after it waits
        return verdict if self._answered else replace(verdict, decision=Decision(Kind.DROP), mark=None)

    def _record_own(self, packet: Packet | None, verdict: Verdict) -> None:
        self._recorder.verdict(self.engine, packet, verdict)


def open_queues(plan: Plan, undo: ExitStack) -> tuple[PacketQueue, ...]:
    """Every queue of the plan, or none."""
    settings, failure = plan.policy.queue, plan.policy.on_failure
    opened: list[PacketQueue] = []
    if plan.ip_queue:
        for family in firewall.families():
            queue = IpQueue.open(
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
            conntrack=plan.conntrack,
            mark_mask=plan.mark_mask,
            failure=failure,
        )
        undo.callback(bound.close)
        opened.append(bound)
    return tuple(opened)
