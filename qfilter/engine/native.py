"""The native engine by call: the reference engine's verdicts, from the compiled core.

A rule whose match needs scapy, a predicate or RE2 is decided here, by the reference's own conditions; the core goes on
with the answer. Which rules those are stands in the plan document. The reference's decoder is loaded when it is first
needed, because it brings scapy: 26 MiB, and half a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import tzinfo
from importlib import import_module
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Protocol, Self
from zoneinfo import ZoneInfo

from qfilter import _native
from qfilter.engine.clock import Clock
from qfilter.engine.foreign import attempt
from qfilter.engine.sets import Digest, Element
from qfilter.engine.summary import summary
from qfilter.engine.tallies import Row, Sums, Tallies, all_rules, counter_names
from qfilter.engine.value import ABSENT, Known, Partial, Unknown, Value
from qfilter.errors import Position
from qfilter.fields import FIELDS, Field, Type
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.report import Report, SetTally
from qfilter.model.rule import Capture, Log
from qfilter.model.verdict import CAUSES, Captured, Decision, Kind, Logged, Reason, RejectWith, Verdict

if TYPE_CHECKING:
    from qfilter.engine.conditions import View

_SECOND = 1_000_000_000
_FIELDS = {name: index for index, name in enumerate(FIELDS)}
_KINDS, _REASONS, _ANSWERS = tuple(Kind), tuple(Reason), tuple(RejectWith)


@dataclass(frozen=True, slots=True)
class Dimension:
    """A field, or whether it is in a long list, whose values say which rules a packet can match at all."""

    source: str
    classes: int
    """Of values, between which no rule distinguishes."""
    vectors: int
    """Different sets of rules that a class leaves."""
    chunks: int
    """Different parts of 512 rules in those."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Structure:
    """The index of a policy's rules."""

    bytes: int
    dimensions: tuple[Dimension, ...]
    """In the order in which they are looked at."""
    residual: tuple[str, ...]
    """Fields that are asked of the rules that are left."""
    searched: int
    """Rules that are left out once a search of the payload has found none of the literals that they need."""


class NativeEngine:
    """One policy in force, see `engine.base.Engine`. Not safe to share between threads."""

    name = "native"

    def __init__(self, policy: Policy, document: bytes, clock: Clock | None = None) -> None:
        """`document` is what `qfilter.compiler.encode` makes of the policy's plan. Raises ValueError for any other."""
        self.policy = policy
        self._clock = clock or Clock()
        self.core = _native.Engine(document, _zone(self._clock.timezone))
        self._rules = tuple(all_rules(policy.rules))
        self._sets = {name: index for index, name in enumerate(policy.sets)}
        self._former: NativeEngine | None = None
        self._earlier = Sums()
        """What engines before the former one counted by call."""

    def fresh(self, clock: Clock | None = None) -> Self:
        """Another engine of the same policy, with sets, limits, flows and counts of its own."""
        other = copy(self)
        other._clock = clock or Clock()
        other.core = self.core.fresh(_zone(other._clock.timezone))
        other._former, other._earlier = None, Sums()
        return other

    def inherit(self, former: NativeEngine, flows: Mapping[str, Position]) -> None:
        """Take over what `former` knows by name, see `engine.base.Engine`."""
        self.core.inherit(former.core, set(flows))
        former._settle()
        self._former = former

    def decide(self, packet: Packet) -> Verdict:
        """The verdict of a packet. Never raises: what goes wrong on the way has the outcome of the cause `error`."""
        verdict = attempt(lambda: self._decide(packet))
        if isinstance(verdict, Unknown):
            self.core.count_error(packet.wire_length)
            return Verdict(Decision(self.policy.on_failure[verdict.reason]), verdict.reason, detail=verdict.detail)
        return verdict

    def _decide(self, packet: Packet) -> Verdict:
        now = self._clock.monotonic()
        found = self.core.decide(packet, now, self._clock.wall())
        while isinstance(found, _native.Suspended):
            found = self.core.resume(found, *self.ask(found.rule, replace(packet, mark=found.mark), now))
        return self.verdict(found, packet)

    def summary(self, packet: Packet) -> Mapping[str, int | IPv4Address | IPv6Address]:
        """A packet in five fields, for events."""
        return summary(self.core.ends(packet))

    def read(self, packet: Packet, field: str, depth: int = 0) -> Value:
        """The value of a field, see `readers.read`; every header field of a malformed packet is unknown."""
        known, why, length = self.core.read(packet, _FIELDS[field], depth, self._clock.wall())
        value = _value(known, FIELDS[field])
        if why is None:
            return ABSENT if value is None else value
        unknown = Unknown(CAUSES[why[0]], why[1])
        if value is None:
            return unknown
        assert isinstance(value, bytes | tuple)
        return Partial(value, length, unknown)

    def structure(self) -> Structure:
        """What the core's index of rules is made of."""
        size, dimensions, residual, searched = self.core.structure()
        return Structure(size, tuple(Dimension(*each) for each in dimensions), tuple(residual), searched)

    def report(self) -> Report:
        """What has been counted by call, since the first engine that this one inherited from."""
        tallies = Tallies(self.policy)
        tallies.absorb(self._counted())
        return tallies.report(self.set_tallies())

    def _counted(self) -> Iterator[Row]:
        """What this engine and those before it have counted by call."""
        yield from self._earlier.rows()
        if self._former is not None:
            yield from self._former._counted()
        yield from self.rows(self.core.totals())

    def _settle(self) -> None:
        """Take over the counts of the former engine, which judges no more, and let go of it."""
        if self._former is None:
            return
        self._earlier.add(self._former._counted())
        self._former = None

    def set_tallies(self) -> Mapping[str, SetTally]:
        """What is in the dynamic sets beside the elements of the file."""
        now = self._clock.monotonic()
        return {name: self._set_tally(name, now) for name, each in self.policy.sets.items() if each.dynamic}

    def rows(self, totals: _native.Totals) -> Iterator[Row]:
        """What the core has counted for this policy, as `Tallies.absorb` takes it."""
        rules, counters, defaults, causes, kinds, malformed = totals
        named: tuple[tuple[str, Iterable[str], _native.Tallies], ...] = (
            ("rule", (rule.id for rule in self._rules), rules),
            ("counter", counter_names(self.policy), counters),
            ("default", Hook, defaults),
            ("cause", CAUSES, causes),
            ("verdict", Kind, kinds),
        )
        for what, names, tallies in named:
            yield from ((what, name, *tally) for name, tally in zip(names, tallies, strict=True))
        yield from (("malformed", name, packets, 0) for name, packets in malformed)

    def elements(self, name: str) -> Sequence[tuple[Element | Digest, float | None]]:
        """What was added to a dynamic set, with the seconds that are left."""
        found = self.core.elements(self._dynamic(name), self._clock.monotonic())
        return [(element, None if left is None else left / _SECOND) for element, left in found]

    def add(self, name: str, element: Element, timeout: float | None) -> bool:
        """Add an element to a dynamic set; False when it is full."""
        stays = None if timeout is None else round(timeout * _SECOND)
        return self.core.add(self._dynamic(name), element, stays, self._clock.monotonic())

    def delete(self, name: str, element: Element) -> bool:
        """Take out an element that was added; False when it is not there."""
        return self.core.delete(self._dynamic(name), element, self._clock.monotonic())

    def flush(self, name: str) -> int:
        """Take out all that was added; how many elements that were."""
        count = self._set_tally(name, self._clock.monotonic()).elements
        self.core.flush(self._dynamic(name))
        return count

    def ready(self) -> None:
        """Load what `ask` needs before a packet waits for it."""
        import_module("qfilter.engine.conditions")

    def ask(self, rule: int, packet: Packet, now: int) -> tuple[bool | int, str]:
        """The truth of a rule's whole match: true, false, or the number of a cause with its words. Never raises.

        `packet` has the mark that rules before have given it, `now` is when the core judged it first.
        """
        truth = attempt(lambda: self._view(packet, now).holds(self._rules[rule].match))
        return (CAUSES.index(truth.reason), truth.detail) if isinstance(truth, Unknown) else (truth, "")

    def _view(self, packet: Packet, now: int) -> View:
        from qfilter.engine.conditions import View  # noqa: PLC0415 - it brings scapy
        from qfilter.engine.decode import decode  # noqa: PLC0415

        def contains(name: str, element: Element) -> bool:
            return self.core.contains(self._sets[name], element, now)

        deadline = self.policy.queue.deadline
        answer_by = None if deadline is None else now + round(deadline * _SECOND)
        return View(decode(packet, self.policy.allow), self._clock, contains, answer_by)

    def verdict(self, row: _native.Row, packet: Packet | None) -> Verdict:
        """A verdict of the core in the words of the policy."""
        kind, argument, reason, rule_index, detail, mark, effects = row
        why = _REASONS[reason]
        rule = None if rule_index is None else self._rules[rule_index]
        at = rule.at if rule else None
        if why is Reason.DEFAULT and packet is not None:
            at = self.policy.defaults[packet.hook].at
        return Verdict(
            _decision(kind, argument),
            why,
            rule=rule.id if rule else None,
            at=at,
            detail=detail,
            mark=mark,
            effects=tuple(map(self._effect, effects)),
        )

    def _effect(self, effect: tuple[int, int]) -> Logged | Captured:
        rule = self._rules[effect[0]]
        match rule.actions[effect[1]]:
            case Log(prefix):
                return Logged(rule.id, rule.at, prefix)
            case Capture(file, limit):
                return Captured(rule.id, file, limit)
            case other:
                raise AssertionError(f"{other} is never recorded")

    def _dynamic(self, name: str) -> int:
        if not self.policy.sets[name].dynamic:
            raise KeyError(name)
        return self._sets[name]

    def _set_tally(self, name: str, now: int) -> SetTally:
        elements, added, refused = self.core.set_tally(self._dynamic(name), now)
        return SetTally(elements=elements, added=added, refused=refused)


class Rows(Protocol):
    """What Python tells a replay of its rows of text."""

    hook: Hook
    """Where the packets are seen."""

    def names(self, interface: str | None) -> tuple[str | None, str | None]:
        """Input and output interface of packets that a capture has from one; asked when the first one comes."""

    def pieces(self, verdict: Verdict, packet: Packet, protocol: int | None) -> tuple[str, str, str, str]:
        """What stands before, between and behind the three parts that are a packet's own; `packet` has no bytes."""

    def tell(self, now: int) -> None:
        """What time it is on the capture's clock, in nanoseconds."""


class NativeReplay:
    """Judges the packets of a capture many at a time, with a row of text for each."""

    def __init__(self, engine: NativeEngine, rows: Rows, ends: int | None) -> None:
        """A packet's own parts are its number, its time of the day, and its ends in so many columns; with None its
        number, its time and its length as JSON has them."""
        self._engine = engine
        self._rows = rows
        self.core = _native.Replay(engine.core, self, rows.hook, ends)

    def names(self, interface: str | None) -> tuple[str | None, str | None]:
        """See Rows."""
        return self._rows.names(interface)

    def pieces(
        self, row: _native.Row, iifname: str | None, oifname: str | None, protocol: int | None
    ) -> tuple[str, str, str, str]:
        """See Rows."""
        packet = Packet(data=b"", hook=self._rows.hook, wire_length=0, iifname=iifname, oifname=oifname)
        return self._rows.pieces(self._engine.verdict(row, packet), packet, protocol)

    def ask(
        self,
        rule: int,
        mark: int,
        now: int,
        data: bytes,
        wire_length: int,
        timestamp: float | None,
        iifname: str | None,
        oifname: str | None,
    ) -> tuple[bool | int, str]:
        """See NativeEngine.ask."""
        self._rows.tell(now)
        packet = Packet(
            data=data,
            hook=self._rows.hook,
            wire_length=wire_length,
            iifname=iifname,
            oifname=oifname,
            mark=mark,
            timestamp=timestamp,
        )
        return self._engine.ask(rule, packet, now)


def _value(known: _native.Known | None, row: Field) -> Known | None:
    if isinstance(known, list):
        return tuple(known)
    return known.decode("utf-8", "surrogateescape") if row.type is Type.TEXT and isinstance(known, bytes) else known


def _decision(kind: int, argument: int) -> Decision:
    match _KINDS[kind]:
        case Kind.REJECT:
            return Decision(Kind.REJECT, reject=_ANSWERS[argument - 1])
        case Kind.QUEUE:
            return Decision(Kind.QUEUE, queue=argument)
        case other:
            return Decision(other)


def _zone(zone: tzinfo | None) -> str | int | None:
    """A time zone as the core takes it: its name, or seconds east of Greenwich."""
    if zone is None:
        return None
    if isinstance(zone, ZoneInfo) and zone.key:
        return zone.key
    offset = zone.utcoffset(None)
    if offset is None:
        raise ValueError(f"time zone {zone}: expected a ZoneInfo or a fixed offset")
    return round(offset.total_seconds())
