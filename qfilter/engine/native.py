"""The native engine by call: the reference engine's verdicts, from the compiled core.

A rule whose match needs scapy, a predicate or RE2 is decided here, by the reference's own conditions; the core goes on
with the answer. Which rules those are stands in the plan document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import tzinfo
from ipaddress import IPv4Address, IPv6Address
from zoneinfo import ZoneInfo

from qfilter import _native
from qfilter.engine.clock import Clock
from qfilter.engine.conditions import View, in_words
from qfilter.engine.decode import decode
from qfilter.engine.sets import Digest, Element
from qfilter.engine.summary import summary
from qfilter.engine.tallies import Tallies, all_rules, counter_names
from qfilter.engine.value import ABSENT, Known, Partial, Unknown, Value
from qfilter.errors import Position
from qfilter.fields import FIELDS, Field, Type
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.report import Report, SetTally
from qfilter.model.rule import Capture, Log, Rule
from qfilter.model.verdict import CAUSES, Captured, Decision, Kind, Logged, Reason, RejectWith, Verdict

_SECOND = 1_000_000_000
_FIELDS = {name: index for index, name in enumerate(FIELDS)}
_KINDS, _REASONS, _ANSWERS = tuple(Kind), tuple(Reason), tuple(RejectWith)


class NativeEngine:
    """One policy in force, see `engine.base.Engine`. Not safe to share between threads."""

    name = "native"

    def __init__(self, policy: Policy, document: bytes, clock: Clock | None = None) -> None:
        """`document` is what `qfilter.compiler.encode` makes of the policy's plan. Raises ValueError for any other."""
        self.policy = policy
        self._clock = clock or Clock()
        self._core = _native.Engine(document, _zone(self._clock.timezone))
        self._rules = tuple(all_rules(policy.rules))
        self._sets = {name: index for index, name in enumerate(policy.sets)}
        self._former: tuple[NativeEngine, ...] = ()

    def inherit(self, former: NativeEngine, flows: Mapping[str, Position]) -> None:
        """Take over what `former` knows by name, see `engine.base.Engine`."""
        self._core.inherit(former._core, set(flows))
        self._former = (*former._former, former)

    def decide(self, packet: Packet) -> Verdict:
        """The verdict of a packet. Never raises: what goes wrong on the way has the outcome of the cause `error`."""
        try:
            now = self._clock.monotonic()
            found = self._core.decide(packet, now, self._clock.wall())
            while isinstance(found, _native.Suspended):
                answer, words = self._ask(self._rules[found.rule], replace(packet, mark=found.mark), now)
                found = self._core.resume(found, answer, words)
            return self._verdict(found, packet.hook)
        except Exception as error:  # noqa: BLE001 - no packet passes because the engine has a fault
            self._core.count_error(packet.wire_length)
            return Verdict(Decision(self.policy.on_failure[Reason.ERROR]), Reason.ERROR, detail=in_words(error))

    def summary(self, packet: Packet) -> Mapping[str, int | IPv4Address | IPv6Address]:
        """A packet in five fields, for events."""
        return summary(self._view(packet, self._clock.monotonic()))

    def read(self, packet: Packet, field: str, depth: int = 0) -> Value:
        """The value of a field, see `readers.read`; every header field of a malformed packet is unknown."""
        known, why, length = self._core.read(packet, _FIELDS[field], depth, self._clock.wall())
        value = _value(known, FIELDS[field])
        if why is None:
            return ABSENT if value is None else value
        unknown = Unknown(CAUSES[why[0]], why[1])
        if value is None:
            return unknown
        assert isinstance(value, bytes | tuple)
        return Partial(value, length, unknown)

    def report(self) -> Report:
        """What has been counted, since the first engine that this one inherited from."""
        tallies = Tallies(self.policy)
        for engine in (*self._former, self):
            tallies.absorb(engine._totals())
        now = self._clock.monotonic()
        return tallies.report({name: self._set_tally(name, now) for name in self._dynamic_sets()})

    def elements(self, name: str) -> Sequence[tuple[Element | Digest, float | None]]:
        """What was added to a dynamic set, with the seconds that are left."""
        found = self._core.elements(self._dynamic(name), self._clock.monotonic())
        return [(element, None if left is None else left / _SECOND) for element, left in found]

    def add(self, name: str, element: Element, timeout: float | None) -> bool:
        """Add an element to a dynamic set; False when it is full."""
        stays = None if timeout is None else round(timeout * _SECOND)
        return self._core.add(self._dynamic(name), element, stays, self._clock.monotonic())

    def delete(self, name: str, element: Element) -> bool:
        """Take out an element that was added; False when it is not there."""
        return self._core.delete(self._dynamic(name), element, self._clock.monotonic())

    def flush(self, name: str) -> int:
        """Take out all that was added; how many elements that were."""
        count = self._set_tally(name, self._clock.monotonic()).elements
        self._core.flush(self._dynamic(name))
        return count

    def _ask(self, rule: Rule, packet: Packet, now: int) -> tuple[bool | int, str]:
        """The truth of a rule's whole match: true, false, or the number of a cause with its words."""
        try:
            truth = self._view(packet, now).holds(rule.match)
        except Exception as error:  # noqa: BLE001 - the same, and the rule is known
            truth = Unknown(Reason.ERROR, in_words(error))
        return (CAUSES.index(truth.reason), truth.detail) if isinstance(truth, Unknown) else (truth, "")

    def _view(self, packet: Packet, now: int) -> View:
        def contains(name: str, element: Element) -> bool:
            return self._core.contains(self._sets[name], element, now)

        deadline = self.policy.queue.deadline
        answer_by = None if deadline is None else now + round(deadline * _SECOND)
        return View(decode(packet, self.policy.allow), self._clock, contains, answer_by)

    def _verdict(self, row: _native.Row, hook: Hook) -> Verdict:
        kind, argument, reason, rule_index, detail, mark, effects = row
        decision, why = _decision(kind, argument), _REASONS[reason]
        rule = None if rule_index is None else self._rules[rule_index]
        default = self.policy.defaults[hook] if why is Reason.DEFAULT else None
        return Verdict(
            decision,
            why,
            rule=rule.id if rule else None,
            at=rule.at if rule else default.at if default else None,
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

    def _totals(self) -> Iterator[tuple[str, str, int, int]]:
        """What this engine alone has counted: what, name, packets and bytes."""
        rules, counters, defaults, causes, kinds, malformed = self._core.totals()
        names = [rule.id for rule in self._rules]
        yield from (("rule", name, *tally) for name, tally in zip(names, rules, strict=True))
        named = counter_names(self.policy)
        yield from (("counter", name, *tally) for name, tally in zip(named, counters, strict=True))
        yield from (("default", name, *tally) for name, tally in zip(Hook, defaults, strict=True))
        yield from (("cause", name, *tally) for name, tally in zip(CAUSES, causes, strict=True))
        yield from (("verdict", name, *tally) for name, tally in zip(Kind, kinds, strict=True))
        yield from (("malformed", name, packets, 0) for name, packets in malformed)

    def _dynamic_sets(self) -> list[str]:
        return [name for name, definition in self.policy.sets.items() if definition.dynamic]

    def _dynamic(self, name: str) -> int:
        if not self.policy.sets[name].dynamic:
            raise KeyError(name)
        return self._sets[name]

    def _set_tally(self, name: str, now: int) -> SetTally:
        elements, added, refused = self._core.set_tally(self._dynamic(name), now)
        return SetTally(elements=elements, added=added, refused=refused)


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
