"""A rule: a condition, what to do when it holds, and the rules inside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from qfilter.errors import Position
from qfilter.model.hook import Hook
from qfilter.model.match import Match
from qfilter.model.packet import Packet
from qfilter.model.verdict import Decision


@dataclass(frozen=True, slots=True)
class FieldTest:
    """One key of a match: a field of the field table against a value."""

    field: str
    """A name of `qfilter.fields.FIELDS`."""
    match: Match
    at: Position
    depth: int = 0
    """0 is the packet itself, 1 the packet inside its tunnel (`inner.`), at most 4."""


@dataclass(frozen=True, slots=True)
class ScapyTest:
    """`scapy.<layer>.<field>`: true when any layer of that class has a value that matches.

    A number matches Ranges; text and bytes match Text; a tuple (a DHCP option) is the text `name=value`; a list is
    several values. A field whose values are neither is matched by its text.
    """

    layer: str
    field: str
    match: Match
    at: Position


class Base(StrEnum):
    """Where an offset into the packet counts from."""

    NETWORK = "network"
    TRANSPORT = "transport"
    PAYLOAD = "payload"


@dataclass(frozen=True, slots=True)
class BytesTest:
    """`len(value)` bytes at an offset, ANDed with `mask`, equal `value`. Absent where the packet ends before."""

    base: Base
    offset: int
    value: bytes
    mask: bytes
    at: Position
    negated: bool = False


Function = Callable[[Packet], bool]


@dataclass(frozen=True, slots=True)
class Predicate:
    """A function of the operator's, and the fields that must be there before it is asked."""

    name: str
    """`module:function`, or the name that it was registered by."""
    needs: tuple[str, ...]
    function: Function = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class PythonTest:
    """A condition in Python. The function is bound when the policy is loaded: what is loaded later changes no other."""

    predicate: Predicate
    at: Position


@dataclass(frozen=True, slots=True)
class AllOf:
    """Kleene and, in file order. Empty is true."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Kleene or, in file order. Empty is false."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class NotOf:
    """The block `not:`: true logical negation, also of an absent field."""

    condition: Condition


Condition = FieldTest | ScapyTest | BytesTest | PythonTest | AllOf | AnyOf | NotOf


@dataclass(frozen=True, slots=True)
class Log:
    """Write an event for every packet that matches."""

    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """Add the packet and its bytes to a named counter."""

    name: str


@dataclass(frozen=True, slots=True)
class SetMark:
    """mark = (mark & ~mask) | value; later rules and the kernel see the new mark."""

    value: int
    mask: int


class SetOperation(StrEnum):
    """What a rule does to a dynamic set."""

    ADD = "add"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class UpdateSet:
    """Add a field's value to a dynamic set, or delete it; nothing happens when the packet has no such field."""

    operation: SetOperation
    set: str
    element: str
    """A field's name, such as `saddr`."""
    timeout: float | None = None
    """Seconds; None takes the set's own. Adding again starts the time anew."""


@dataclass(frozen=True, slots=True)
class Capture:
    """Write the packet to a pcapng file until the file has `limit` bytes."""

    file: str
    limit: int


Action = Log | Count | SetMark | UpdateSet | Capture


@dataclass(frozen=True, slots=True)
class Limit:
    """A token bucket that a rule must pass after its match: it matches while tokens last, or with `over` once none do.

    Tokens come back at `rate` per `seconds`; the bucket holds `burst`. With `per`, each combination of those fields'
    values has a bucket of its own.
    """

    rate: int
    seconds: int
    burst: int
    per: tuple[str, ...] = ()
    over: bool = False


class Scope(StrEnum):
    """How long a verdict holds: for this packet, or for the rest of its flow, both directions."""

    PACKET = "packet"
    FLOW = "flow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of `rules:`. The first match in file order whose rule has a verdict wins."""

    id: str
    """Unique in the policy; made from the position where the file gives none (`web.yaml:12`)."""
    at: Position
    hooks: tuple[Hook, ...] = ()
    """Where the rule applies; empty is everywhere."""
    match: Condition = AllOf(())
    limit: Limit | None = None
    actions: tuple[Action, ...] = ()
    """In file order; done when the rule matches, before its verdict and before the rules inside it."""
    verdict: Decision | None = None
    """None goes on: into `rules`, then to the next rule. Never set together with `rules`."""
    scope: Scope = Scope.PACKET
    rules: tuple[Rule, ...] = ()
