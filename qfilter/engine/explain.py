"""Why a packet gets its verdict: every rule that was looked at, and the conditions that failed."""

from __future__ import annotations

from dataclasses import dataclass

from qfilter.engine.conditions import View
from qfilter.engine.describe import condition as in_words
from qfilter.engine.describe import subject
from qfilter.engine.describe import value as value_in_words
from qfilter.engine.matching import Truth
from qfilter.engine.reference import ReferenceEngine
from qfilter.engine.value import Absent
from qfilter.errors import Position
from qfilter.fields import FIELDS
from qfilter.model.packet import Packet
from qfilter.model.rule import AllOf, AnyOf, BytesTest, Condition, FieldTest, NotOf, Rule, ScapyTest
from qfilter.model.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Part:
    """One condition of a rule that did not hold."""

    condition: str
    found: str
    """What the packet has instead: `dport is 443`, one for each field that the condition looks at."""
    at: Position | None
    truth: Truth


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that was looked at."""

    rule: Rule
    truth: Truth
    held: int
    """How many of its conditions held."""
    failed: tuple[Part, ...]
    """Those that did not, in file order. Empty for a match, and for a rule that only its limit kept from matching."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict and the way to it."""

    packet: Packet
    verdict: Verdict
    fields: tuple[tuple[str, str], ...]
    """Name and value of every field that the packet has, or may have."""
    steps: tuple[Step, ...]
    """In the order of evaluation."""

    @property
    def near_misses(self) -> tuple[Step, ...]:
        """Rules that did not match: the one that could not be decided, then those with the fewest failed conditions."""
        missed = [step for step in self.steps if step.truth is not True]
        return tuple(sorted(missed, key=lambda step: (step.truth is False, len(step.failed), -step.held)))


def explain(engine: ReferenceEngine, packet: Packet) -> Explanation:
    """Judge a packet and tell every rule that was looked at. Counts, limits and sets change as for any packet."""
    steps: list[Step] = []

    def trace(rule: Rule, truth: Truth, view: View) -> None:
        parts = _parts(rule.match)
        failed = () if truth is True else tuple(_failed(parts, view))
        steps.append(Step(rule, truth, len(parts) - len(failed), failed))

    fields = _fields(engine, packet)
    return Explanation(packet, engine.decide(packet, trace), fields, tuple(steps))


def _fields(engine: ReferenceEngine, packet: Packet) -> tuple[tuple[str, str], ...]:
    view = engine.view(packet)
    if view.decoded.malformed:
        return ()
    values = ((name, view.read(name)) for name in FIELDS)
    return tuple((name, value_in_words(value, name)) for name, value in values if not isinstance(value, Absent))


def _parts(condition: Condition) -> list[Condition]:
    """The conditions that must all hold."""
    if isinstance(condition, AllOf):
        return [part for inner in condition.conditions for part in _parts(inner)]
    return [condition]


def _failed(parts: list[Condition], view: View) -> list[Part]:
    truths = [(part, view.holds(part)) for part in parts]
    return [
        Part(in_words(part), _found(part, view), _position(part), truth) for part, truth in truths if truth is not True
    ]


def _leaves(condition: Condition) -> list[Condition]:
    match condition:
        case AllOf(conditions) | AnyOf(conditions):
            return [leaf for inner in conditions for leaf in _leaves(inner)]
        case NotOf(inner):
            return _leaves(inner)
    return [condition]


def _found(part: Condition, view: View) -> str:
    tests = {subject(leaf): leaf for leaf in _leaves(part) if isinstance(leaf, FieldTest | ScapyTest | BytesTest)}
    return ", ".join(f"{name} is {_seen(test, view)}" for name, test in tests.items())


def _seen(test: FieldTest | ScapyTest | BytesTest, view: View) -> str:
    found = view.value(test)
    if isinstance(test, BytesTest) and isinstance(found, bytes):
        return found.hex(" ")
    return value_in_words(found, test.field if isinstance(test, FieldTest) else "")


def _position(part: Condition) -> Position | None:
    leaves = _leaves(part)
    first = leaves[0] if leaves else None
    return None if first is None or isinstance(first, AllOf | AnyOf | NotOf) else first.at
