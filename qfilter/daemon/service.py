"""A policy in force: bound queues, an engine that judges, installed kernel rules.

The order is what keeps a mistake from opening or closing the machine: the policy's tests pass, the queues are bound,
then the kernel rules are installed; at the end the rules are removed, what is queued gets its verdict, and then the
queues are let go. A failure in between leaves the rules, and with them the outcome of `no_listener`.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self, TypeVar

from qfilter import firewall
from qfilter.control import live
from qfilter.control.changes import between, changes, first_step, needs_restart
from qfilter.control.heritage import kept_flows
from qfilter.control.messages import STOPS, Changed, ChangeSet, ElementState, Refused, Reloaded, Sets, Stats, Status
from qfilter.control.orders import Orders
from qfilter.control.place import listening
from qfilter.control.server import ControlServer
from qfilter.daemon.losses import LOOK_EVERY, Losses, LossWatch
from qfilter.daemon.memory import give_back
from qfilter.daemon.preparing import EngineName, engine_maker, prepare
from qfilter.daemon.recorder import Recorder
from qfilter.daemon.serving import Serving
from qfilter.daemon.threads import open_serving
from qfilter.engine.base import Engine
from qfilter.errors import ControlError, FirewallError, PolicyError, QFilterError
from qfilter.events.outputs import Outputs
from qfilter.events.record import EventType, rfc3339
from qfilter.firewall.watch import EVERY
from qfilter.model.plan import KernelRules, Plan
from qfilter.model.report import Report
from qfilter.policy.load import load
from qfilter.queues.base import CountedQueue

_MOST_PROBLEMS = 20
"""Of a refused policy, on standard error and in its event; who asked is told all."""


_Done = TypeVar("_Done")


@dataclass(frozen=True)
class _Reload:
    """A reload that somebody wants."""

    path: str | None = None
    """None is the file in force."""
    tell: Callable[[Reloaded | Refused], None] | None = None
    """Who waits for its end."""


class Service:
    """A plan in force, from `start` or the beginning of a `with` block to `close` or its end. It serves once.

    Packets are judged in threads of the service's own. Its methods may be called from any other thread of the same
    network namespace.
    """

    def __init__(
        self,
        plan: Plan,
        outputs: Outputs | None = None,
        *,
        engine: EngineName = EngineName.NATIVE,
        keep_rules: bool = False,
        compare_every: float = EVERY,
        say: Callable[[str], None] | None = None,
        control: Path | None = None,
    ) -> None:
        """`compare_every` are the seconds between two looks at the kernel rules; `say` is told what an operator must
        know at once, in another thread; `control` is the path of the socket that the service answers at."""
        self.plan = plan
        self._recorder = Recorder(outputs or Outputs())
        self._keep_rules = keep_rules
        self._compare_every = compare_every
        self._say = say
        self._control = control
        self._engine_name = engine
        self._engine = engine_maker(engine, plan.policy)(None)
        give_back()
        self._serving: Serving | None = None
        self._losses: LossWatch | None = None
        # Of who brings another policy in, from its kernel rules on: a stop waits for that, and for nothing before.
        self._bringing = threading.Lock()
        # The engine in force and its sets: never held while anything is waited for.
        self._changing = threading.Lock()
        # Not an Event: its lock may be held by the very thread that a signal interrupts.
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._ending = False
        self._said = ""
        self._failure: BaseException | None = None
        self._draining = False
        self._installed: KernelRules | None = None
        self._watch: firewall.Watch | None = None
        self._reloads: Orders[_Reload] | None = None
        self._started = self._since = 0.0
        self._undo = ExitStack()

    def start(self) -> None:
        """Bind, serve, install. Raises what any of it raises, and then nothing is left behind."""
        with ExitStack() as undo:
            if self.plan.kernel is not None:
                undo.enter_context(firewall.lock())
            listener = None if self._control is None else undo.enter_context(listening(self._control))
            serving = self._serving = open_serving(self.plan, self._engine, self._recorder, undo)
            losses = self._losses = LossWatch(serving.queues, self._tell_losses, self._look_at_outputs)
            self._record(EventType.START, self.in_force)
            undo.callback(self._record_stop)
            undo.callback(self._stop_serving)
            serving.start(losses, self._fail)
            if self.plan.kernel is not None:
                self._install(self.plan.kernel)
                undo.callback(self._remove_rules)
                self._watch = self._start_watch(self.plan.kernel)
                undo.callback(self._close_watch)
            self._started = self._since = time.time()
            self._reloads = Orders(self._reload, name="qfilter-reload")
            undo.callback(self._reloads.close)
            if listener is not None:
                undo.callback(ControlServer(listener, self).close)
            undo.callback(self._finish_reload)
            self._undo = undo.pop_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until `stop` was called or serving ended by itself; False after `timeout` seconds.

        Raises what ended it when that was not `stop`: a queue that is gone, for example.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        while not self._has_ended(max(0.0, min(LOOK_EVERY, until - time.monotonic()))):
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
        self._ending = True
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
            self._reloads.give(_Reload())

    def reload(self, path: str | None = None) -> Reloaded | Refused:
        """Put the policy of a file in force, or the present one's file again, between two packets.

        A policy that does not load, fails its own tests, does not compile or needs a restart changes nothing. Dynamic
        sets, limits, counters and flows go on by name, see `control.heritage` for flows. Never raises.
        """
        told: SimpleQueue[Reloaded | Refused] = SimpleQueue()
        self.ask_reload(path, told.put)
        return told.get()

    def ask_reload(self, path: str | None, tell: Callable[[Reloaded | Refused], None]) -> None:
        """The same; `tell` is told the end of it, in another thread. Reloads come one after the other, in order."""
        wanted = _Reload(path, tell)
        if self._reloads is None:
            self._reload(wanted)
        else:
            self._reloads.give(wanted)

    def status(self) -> Status:
        """What is in force."""
        return Status(
            process=os.getpid(),
            engine=self._engine.name,
            digest=self.plan.policy.digest,
            started=rfc3339(self._started),
            since=rfc3339(self._since),
            in_force=self.in_force,
            queues=self.losses,
            events_lost=self._recorder.lost,
            events_error=self._recorder.error,
        )

    def stats(self) -> Stats:
        """What has been counted so far, and what the queues had lost a moment ago."""
        lost, error = self._recorder.lost, self._recorder.error
        return Stats(report=self.report(), queues=self.losses, events_lost=lost, events_error=error)

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
    def queues(self) -> Sequence[CountedQueue]:
        """The bound queues, with their counters."""
        return () if self._serving is None else self._serving.queues

    @property
    def warnings(self) -> Sequence[str]:
        """What the operator should know of the queues: settings that the kernel did not take as wanted."""
        return () if self._serving is None else self._serving.warnings

    @property
    def in_force(self) -> Mapping[str, object]:
        """What the `start` event says."""
        policy, kernel = self.plan.policy, self.plan.kernel
        return {
            "file": policy.path,
            "queues": list(dict.fromkeys(queue.number for queue in self.queues)),
            "backend": None if kernel is None else kernel.backend,
            "default": {hook: str(default.decision) for hook, default in policy.defaults.items()},
            "on_failure": dict(policy.on_failure),
            "copy_range": self.plan.copy_range,
        }

    @property
    def losses(self) -> Losses:
        """What each queue had lost when it was last looked at, as the `queue` event says it."""
        return () if self._losses is None else self._losses.losses

    def report(self) -> Report:
        """What has been counted so far."""
        return self._engine.report() if self._serving is None else self._serving.report()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self._failure is not None:
            raise self._failure

    def _held(self) -> AbstractContextManager[None]:
        return nullcontext() if self._serving is None else self._serving.held()

    def _reload(self, wanted: _Reload) -> None:
        """By who does the orders. Raises nothing."""
        if self._is_ending():
            # At once, for it may be in a signal handler.
            return _tell(wanted, STOPS)
        file = self.plan.policy.path if wanted.path is None else wanted.path
        found = _outcome(lambda: self._prepare(file))
        with self._bringing:
            if self._is_ending():
                return _tell(wanted, STOPS)
            before = self.plan
            outcome = found if isinstance(found, Refused) else _outcome(lambda: self._replace(*found))
            same = self.plan is before and self._installed == before.kernel
            self._tell_reload(file, outcome, same=same)
            return _tell(wanted, outcome)

    def _finish_reload(self) -> None:
        """What is being brought in is in after this call, and nothing is brought in any more."""
        self._ending = True
        with self._bringing:
            pass

    def _prepare(self, file: str) -> tuple[Plan, Engine]:
        """All that takes long. Changes nothing; once a stop was asked for, it is given up at the next step."""
        kernel = self.plan.kernel
        backend = None if kernel is None else kernel.backend
        policy = load(file)
        self._go_on()
        plan = prepare(policy, install=kernel is not None, backend=backend, engine=self._engine_name)
        if problems := needs_restart(self.plan, plan):
            raise PolicyError(problems)
        self._go_on()
        return plan, engine_maker(self._engine_name, policy)(None)

    def _is_ending(self) -> bool:
        return self._ending

    def _go_on(self) -> None:
        if self._is_ending():
            raise ControlError(STOPS.problem)

    def _replace(self, plan: Plan, engine: Engine) -> Reloaded:
        """Raises what keeps the plan from being in force; the one before is then, in the kernel rules too."""
        before, policy = self.plan, plan.policy
        watched = plan.kernel == before.kernel == self._installed
        with self._unwatched(watched=watched), self._unanswered(plan.kernel):
            try:
                self._bring_in(plan, engine)
            except Exception as error:
                try:
                    self._bring_back(before)
                except QFilterError as worse:
                    judges = "old" if self.plan is before else "new"
                    words = f"{error}\nthe {judges} policy judges, and not all that the old one needs is back: {worse}"
                    raise FirewallError("reload", words) from None
                raise
        return Reloaded(
            file=policy.path,
            digest=policy.digest,
            changes=changes(before.policy, policy),
            warnings=policy.warnings,
        )

    def _bring_in(self, plan: Plan, engine: Engine) -> None:
        """Kernel rules and queues that are right for both policies, then the new policy, then what it alone needs."""
        if plan.kernel is not None and self.plan.kernel is not None:
            self._install(first_step(self.plan.kernel, plan.kernel))
        if self._serving is not None:
            self._serving.configure(between(self.plan, plan))
        with self._changing:
            engine.inherit(self._engine, kept_flows(self.plan.policy, plan.policy))
            if self._serving is not None:
                self._serving.switch(plan, engine)
            self.plan, self._engine, self._since = plan, engine, time.time()
        self._fit(plan)
        give_back()

    def _bring_back(self, before: Plan) -> None:
        if self.plan is before:
            self._fit(before)
        else:
            self._bring_in(before, engine_maker(self._engine_name, before.policy)(None))

    def _fit(self, plan: Plan) -> None:
        """Queues and kernel rules for the policy that judges, and no other."""
        if plan.kernel is not None:
            self._install(plan.kernel)
        if self._serving is not None:
            self._serving.configure(plan)

    def _install(self, rules: KernelRules) -> None:
        if rules != self._installed:
            # What fails may leave anything.
            self._installed = None
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

    @contextmanager
    def _unanswered(self, rules: KernelRules | None) -> Iterator[None]:
        """What is rejected is dropped, while the kernel rules become these: its answer may not be among them."""
        if self._serving is None or rules == self._installed:
            yield
            return
        try:
            self._serving.answer_rejects(False)
            yield
        finally:
            if self._installed == self.plan.kernel:
                self._serving.answer_rejects(True)

    def _start_watch(self, rules: KernelRules) -> firewall.Watch:
        return firewall.Watch(rules, self._tell_differences, every=self._compare_every)

    def _close_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()

    def _tell_reload(self, file: str, outcome: Reloaded | Refused, *, same: bool) -> None:
        if isinstance(outcome, Reloaded):
            word, changed, problems = "reloaded", list(outcome.changes), list[str]()
            said = f"reloaded {file}"
        else:
            word, changed, problems = "refused", [], _problems(outcome)
            said = f"{file} refused: the policy before it {'stays in force' if same else 'is not wholly back'}"
        self._record(EventType.RELOAD, {"file": file, "outcome": word, "changes": changed, "problems": problems})
        if self._say is not None:
            for line in (*problems, said):
                self._say(line)

    def _fail(self, failure: BaseException) -> None:
        """Serving has ended by itself: `wait` raises it where somebody can act on it."""
        self._failure = failure
        self.stop()

    def _stop_serving(self) -> None:
        assert self._serving is not None
        self._serving.stop(drain=self._draining and not self.failed)

    def _tell_losses(self, row: Mapping[str, object]) -> None:
        self._record(EventType.QUEUE, row)

    def _look_at_outputs(self) -> None:
        self._recorder.tell_missed()
        error, before = self._recorder.error, self._said
        self._said = error
        if error != before and self._say is not None:
            self._say(f"events are lost: {error}")

    def _tell_differences(self, found: tuple[str, ...]) -> None:
        self._record(EventType.RULES, {"differences": list(found)})
        if self._say is not None:
            self._say(
                f"kernel rules differ: {firewall.summary(found)}" if found else "kernel rules are as they should be"
            )

    def _remove_rules(self) -> None:
        # To remove them because something broke would open what they close.
        if not self._keep_rules and not self.failed:
            assert self._serving is not None
            try:
                self._serving.answer_rejects(False)
            finally:
                firewall.remove()
                self._draining = True

    def _record(self, kind: EventType, values: Mapping[str, object]) -> None:
        self._recorder.note(kind, self.plan.policy.digest, values)

    def _record_stop(self) -> None:
        assert self._losses is not None
        self._losses.look_last()
        self._recorder.tell_missed()
        report = self.report()
        totals = {
            "packets": report.total.packets,
            "bytes": report.total.bytes,
            "verdicts": {kind: tally.packets for kind, tally in report.verdicts.items()},
            "queues": list(self.losses),
            "events_lost": self._recorder.lost,
        }
        self._record(EventType.STOP, totals)


def _outcome(work: Callable[[], _Done]) -> _Done | Refused:
    try:
        return work()
    except PolicyError as error:
        return Refused(problem="", diagnostics=error.diagnostics)
    except (QFilterError, OSError) as error:
        return Refused(problem=str(error))
    except Exception as fault:  # noqa: BLE001 - the next one may succeed
        return Refused.by_fault(fault)


def _tell(wanted: _Reload, outcome: Reloaded | Refused) -> None:
    if wanted.tell is not None:
        wanted.tell(outcome)


def _problems(refused: Refused) -> list[str]:
    found = [str(diagnostic) for diagnostic in refused.diagnostics[:_MOST_PROBLEMS]]
    more = len(refused.diagnostics) - len(found)
    return [*found, *([f"and {more:,} more"] if more else []), *([refused.problem] if refused.problem else [])]
