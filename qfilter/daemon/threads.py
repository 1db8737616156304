"""The native engine's loop, seen from Python: its threads judge alone; events are written, questions answered here."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext

from qfilter.daemon.answers import Answer, Answers
from qfilter.daemon.losses import LossWatch
from qfilter.daemon.recorder import Recorder
from qfilter.daemon.serving import Ended, Serving, ServingByCall
from qfilter.engine.base import Engine
from qfilter.engine.native import NativeEngine
from qfilter.engine.tallies import Sums, Tallies
from qfilter.errors import QueueError
from qfilter.model.plan import Plan
from qfilter.model.report import Report
from qfilter.queues.base import CountedQueue
from qfilter.queues.native import NativeQueues, Question

ANSWERERS = 2
"""Threads that ask scapy and predicates: one may wait for something while the other goes on."""
_YIELDING = 19
"""`nice` of those threads."""
_BATCH = 256
"""Events or questions at once."""
_REMEMBERED = 8
"""Policies at least whose events can be told, the one in force among them."""
_PATIENCE = 0.2
"""Seconds without any, after which a thread looks around."""
_FAREWELL = 2 * _PATIENCE
"""Seconds that an answerer has to end in."""
_DRAIN = 5.0
"""Seconds in which what is queued at the end must have its verdict."""


class ServingByThreads:
    """The native engine, and NFQUEUE."""

    def __init__(self, plan: Plan, engine: NativeEngine, recorder: Recorder, undo: ExitStack) -> None:
        """Binds the queues; `undo` lets them go."""
        self.engine = engine
        self._plan = plan
        self._recorder = recorder
        self._native = NativeQueues.open(plan, engine.core)
        undo.callback(self._native.stop, 0.0)
        self._engines = {0: engine}
        self._counting = {0: engine}
        self._retired = Sums()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._stopping = threading.Event()
        self._watch: LossWatch | None = None
        self._threads: list[threading.Thread] = []
        self._questions: deque[Question] = deque()
        self._answers = Answers(self._native.answer)
        self._missed = 0

    @property
    def queues(self) -> Sequence[CountedQueue]:
        """See Serving."""
        return self._native.each

    @property
    def warnings(self) -> Sequence[str]:
        """See Serving."""
        return self._native.warnings

    def start(self, watch: LossWatch, ended: Ended) -> None:
        """See Serving."""

        def look() -> None:
            if self._ending.is_set():
                return
            try:
                watch.look()
                if failure := self._native.failure:
                    raise QueueError("serve the queues", failure)
            except QueueError:
                # They may have been let go while they were looked at.
                if not self._ending.is_set():
                    raise

        self._watch = watch

        self._native.start()
        works = [(self._record, look), (self._give_overdue, None), *[(self._answer, None)] * ANSWERERS]
        for work, again in works:
            thread = threading.Thread(target=self._work, args=(work, again, ended), name="qfilter-work", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, *, drain: bool) -> None:
        """See Serving."""
        self._ending.set()
        if self._watch is not None:
            self._watch.look_last()
        # The answerers go on meanwhile: what waits for them is queued too.
        self._native.stop(_DRAIN if drain else 0.0)
        self._stopping.set()
        for number, thread in enumerate(self._threads):
            # The first is to record every event. For answers nobody waits any more, and a predicate may never give one.
            thread.join(_FAREWELL if number else None)

    def held(self) -> AbstractContextManager[None]:
        """See Serving. The core looks after its sets by itself."""
        return nullcontext()

    def configure(self, plan: Plan) -> None:
        """See Serving."""
        self._native.configure(plan)
        self._plan = plan

    def answer_rejects(self, answered: bool) -> None:
        """See Serving."""
        self._native.answer_rejects(answered)
        if not answered:
            # The same settings: when the kernel has answered, the verdicts before are sent.
            self._native.configure(self._plan)

    def switch(self, plan: Plan, engine: Engine) -> None:
        """See Serving."""
        assert isinstance(engine, NativeEngine)
        with self._lock:
            number = max(self._engines) + 1
            # Before its first question can be here: it is about this engine's rules and no other's.
            self._engines[number] = self._counting[number] = engine
            given = self._native.replace(engine.core)
            assert given == number
            self.engine = engine
            self._settle()
            # Events of engines that judge no more may still be on their way here.
            for old in [each for each in self._engines if each <= number - _REMEMBERED and each not in self._counting]:
                del self._engines[old]

    def report(self) -> Report:
        """See Serving."""
        with self._lock:
            self._settle()
            tallies = Tallies(self.engine.policy)
            for number, engine in self._counting.items():
                tallies.absorb(engine.rows(self._native.totals(number)))
            tallies.absorb(self._retired.rows())
            return tallies.report(self.engine.set_tallies())

    def _settle(self) -> None:
        """Takes over what was counted with engines that judge no more: none of their packets waits either."""
        for number, engine in list(self._counting.items()):
            final = self._native.retire(number)
            if final is not None:
                del self._counting[number]
                self._retired.add(engine.rows(final))

    def _work(self, work: Callable[[], None], look: Callable[[], None] | None, ended: Ended) -> None:
        if work == self._answer:
            # Verdicts that need no Python come first where there are too few CPUs for both.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _YIELDING)
        try:
            while not self._stopping.is_set():
                work()
                if look is not None:
                    look()
            work()
        except BaseException as failure:  # noqa: BLE001 - it is raised where somebody can act on it
            ended(failure)

    def _record(self) -> None:
        while events := self._native.events(_BATCH, 0.0 if self._stopping.is_set() else _PATIENCE):
            for ended in events:
                engine = self._engines.get(ended.engine)
                if engine is None:
                    self._recorder.miss(1)
                else:
                    self._recorder.verdict(engine, ended.packet, engine.verdict(ended.verdict, ended.packet))
            if not self._stopping.is_set():
                break
        lost = self._native.events_lost
        self._recorder.miss(lost - self._missed)
        self._missed = lost

    def _answer(self) -> None:
        if self._stopping.is_set():
            return
        try:
            question = self._questions.popleft()
        except IndexError:
            self._questions.extend(self._native.questions(_BATCH, _PATIENCE))
            return
        # One by one, by whoever is free: one that hangs keeps no other from being asked.
        engine = self._engines.get(question.engine)
        # An engine that judges no more has no packet that waits: this one's came too late.
        answers: list[Answer] = []
        if engine is not None:
            answer = engine.ask(question.rule, question.packet, question.asked)
            answers.append((question.queue, question.ticket, *answer))
        self._answers.add(answers, more=bool(self._questions))

    def _give_overdue(self) -> None:
        self._answers.give_overdue(0.0 if self._stopping.is_set() else _PATIENCE)


def open_serving(plan: Plan, engine: Engine, recorder: Recorder, undo: ExitStack) -> Serving:
    """Binds the queues for an engine. Raises what the queues raise, and then nothing is bound."""
    if isinstance(engine, NativeEngine) and not plan.ip_queue:
        return ServingByThreads(plan, engine, recorder, undo)
    return ServingByCall(plan, engine, recorder, undo)
