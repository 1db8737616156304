"""NFQUEUE without Python in the way: threads of the native core read, judge and answer; we hear of it afterwards.

A packet whose rule needs scapy or a predicate waits in its queue's thread for an answer from here, while others
overtake it. Events come through a bounded ring, of which the newest is lost when nobody reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from qfilter import _native
from qfilter.errors import PrivilegeError, QueueError, QueueTakenError, UnsupportedError
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.plan import Plan
from qfilter.model.verdict import Reason
from qfilter.netlink.queues import bound_queues, holder
from qfilter.queues.base import QueueCounters


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of one packet, where it is worth an event."""

    engine: int
    """The number that `replace` gave; 0 is the first."""
    packet: Packet | None
    """None where not more than its id is known."""
    verdict: _native.Row


@dataclass(frozen=True, slots=True)
class Question:
    """A packet that waits for the truth of a rule's whole match."""

    queue: int
    ticket: int
    engine: int
    rule: int
    """Its index, in preorder."""
    packet: Packet
    """With the mark that rules before have given it."""
    asked: int
    """Monotonic nanoseconds: when the packet was judged first."""


class NativeQueue:
    """One of the queues, as whoever counts sees it."""

    family = None

    def __init__(self, number: int, queues: NativeQueues) -> None:
        self.number = number
        self._queues = queues

    @property
    def counters(self) -> QueueCounters:
        """What it has seen since it was bound."""
        return self._queues.counters.get(self.number) or QueueCounters()


class NativeQueues:
    """The queues of a plan: bound from `open` on, served from `start` to `stop`. Its methods are safe in any thread."""

    def __init__(self, server: _native.Server, plan: Plan) -> None:
        self._server = server
        settings = plan.policy.queue
        self.each = tuple(NativeQueue(number, self) for number in range(settings.first, settings.last + 1))
        self.warnings = tuple(server.warnings)

    @classmethod
    def open(cls, plan: Plan, engine: _native.Engine) -> Self:
        """Binds the queues of the thread's network namespace, all or none, for an engine to judge.

        Raises PrivilegeError, UnsupportedError, QueueTakenError, and QueueError for what else the kernel refuses.
        """
        settings = plan.policy.queue
        try:
            server = _native.Server(
                engine,
                first=settings.first,
                last=settings.last,
                length=settings.length,
                copy_range=plan.copy_range,
                socket_buffer=settings.socket_buffer,
                fail_open=plan.fail_open,
                conntrack=plan.conntrack,
                deadline=settings.deadline,
            )
        except _native.TakenError as taken:
            raise _taken(taken.args[0]) from None
        except _native.PrivilegeError as error:
            raise PrivilegeError(str(error)) from None
        except _native.UnsupportedError as error:
            raise UnsupportedError(str(error)) from None
        except OSError as error:
            raise QueueError("bind the queues", error.strerror or str(error)) from None
        return cls(server, plan)

    def start(self) -> None:
        """Serve from now on."""
        self._server.start()

    def stop(self, patience: float) -> None:
        """Give what is queued its verdict, for `patience` seconds at most, and let the queues go."""
        self._server.stop(patience)

    def replace(self, engine: _native.Engine) -> int:
        """Put another engine in force between two batches; gives its number, which events and questions bear."""
        return self._server.replace(engine)

    def answer_rejects(self, answered: bool) -> None:
        """Whether the kernel rules answer what the engine in force rejects, from the next verdict on. Else it is
        dropped, and after such a time what earlier engines reject too.
        """
        self._server.answer_rejects(answered)

    def configure(self, plan: Plan) -> None:
        """Settings of another plan; returns when what was copied by those before has been judged, or waits.

        Raises QueueError for what the kernel refuses.
        """
        settings = plan.policy.queue
        try:
            self._server.configure(settings.length, plan.copy_range, plan.fail_open, plan.conntrack, settings.deadline)
        except OSError as error:
            raise QueueError("configure the queues", error.strerror or str(error), error.errno or 0) from None

    def totals(self, number: int) -> _native.Totals:
        """What was counted with an engine."""
        return self._server.totals(number)

    def retire(self, number: int) -> _native.Totals | None:
        """Forget an engine that no thread will use again; gives its final totals, None while one may."""
        return self._server.retire(number)

    @property
    def counters(self) -> Mapping[int, QueueCounters]:
        """What each queue has seen."""
        return {number: _counters(seen) for number, seen in self._server.counters()}

    @property
    def failure(self) -> str | None:
        """Why a thread ended by itself."""
        return self._server.failure()

    @property
    def events_lost(self) -> int:
        """Events that nobody read in time."""
        return self._server.events_lost

    def events(self, most: int, patience: float) -> list[Ended]:
        """What became of packets, after waiting `patience` seconds for the first."""
        found = self._server.events(most, patience)
        return [Ended(number, None if fields is None else to_packet(fields), row) for number, fields, row in found]

    def questions(self, most: int, patience: float) -> list[Question]:
        """Questions that wait, after waiting `patience` seconds for the first."""
        return [_question(*each) for each in self._server.questions(most, patience)]

    def answer(self, answers: list[tuple[int, int, bool | int, str]]) -> None:
        """Queue, ticket, and what is true: true, false, or the number of a cause with its words."""
        self._server.answer(answers)


def _question(
    queue: int, ticket: int, engine: int, rule: int, mark: int, asked: int, fields: Mapping[str, Any]
) -> Question:
    return Question(queue, ticket, engine, rule, replace(to_packet(fields), mark=mark), asked)


def to_packet(fields: Mapping[str, Any]) -> Packet:
    """A packet as the threads tell of it, see `_native.Fields`."""
    hwaddr = fields["hwaddr"]
    return Packet(
        data=fields["data"],
        hook=Hook(fields["hook"]),
        wire_length=fields["wire_length"],
        iifname=_text(fields["iifname"]),
        oifname=_text(fields["oifname"]),
        physin=_text(fields["physin"]),
        physout=_text(fields["physout"]),
        mark=fields["mark"],
        uid=fields["uid"],
        gid=fields["gid"],
        ct_state=fields["ct_state"],
        ct_mark=fields["ct_mark"],
        hwaddr=None if hwaddr is None else bytes.fromhex(hwaddr.decode().replace(":", "")),
        timestamp=fields["timestamp"],
        checksum_ready=fields["checksum_ready"],
    )


def _text(name: bytes | None) -> str | None:
    return None if name is None else name.decode("utf-8", "surrogateescape")


def _taken(number: int) -> QueueError:
    held = bound_queues().get(number)
    if held is None:
        return QueueError(f"bind queue {number}", "the kernel refused it")
    return QueueTakenError(number, held.port_id, holder(held.port_id))


def _counters(seen: Mapping[str, Any]) -> QueueCounters:
    failures = Counter({Reason(cause): count for cause, count in seen["failures"] if count})
    failures[Reason.ERROR] += seen["refused"]
    return QueueCounters(
        received=seen["received"],
        accepted=seen["accepted"],
        dropped=seen["dropped"],
        requeued=seen["queued"],
        repeated=seen["repeated"],
        failures=+failures,
        last_failure=seen["last_failure"],
        truncated=seen["truncated"],
        lost=seen["lost"],
        errors=Counter(seen["errors"]),
        panics=seen["panics"],
        late_answers=seen["late_answers"],
    )
