"""The plan document: a plan as msgpack, for engines that are not Python.

A map with string keys, version 1; native/core/src/plan.rs reads it. It is numbers, names and bytes: fields are indices
into `fields`, sets into `sets`, counters into `counters`, address ranges into `addresses`, and `hooks` 0 is every hook.
The same policy and capabilities give the same bytes.

`Plan.places` says where a rule is decided. A test that only Python can decide (`places.needs_python`) stands here as
`["python"]`, and the place of its rule is `python`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import msgpack

from qfilter import regex
from qfilter.compiler.places import needs_python
from qfilter.fields import FIELDS
from qfilter.model.hook import Hook
from qfilter.model.match import (
    Addresses,
    AllMatch,
    AnyBit,
    AnyMatch,
    InSet,
    Masked,
    Match,
    NotMatch,
    Ranges,
    Text,
    TextLength,
    TextTest,
)
from qfilter.model.plan import Place, Plan
from qfilter.model.policy import SetDefinition, Strings
from qfilter.model.rule import (
    Action,
    AllOf,
    AnyOf,
    Base,
    BytesTest,
    Capture,
    Condition,
    Count,
    FieldTest,
    Limit,
    Log,
    NotOf,
    PythonTest,
    Rule,
    ScapyTest,
    Scope,
    SetMark,
    SetOperation,
    UpdateSet,
)
from qfilter.model.verdict import CAUSES, Decision, Kind

VERSION = 2

_BIN_32 = b"\xc6"
"""Bytes, behind 32 bits of their number (msgpack's bin 32)."""

_FIELDS = {name: index for index, name in enumerate(FIELDS)}
_KINDS = {kind: index for index, kind in enumerate(Kind)}
_HOOKS = {hook: 1 << hook.number for hook in Hook}
_BASES = {base: index for index, base in enumerate(Base)}


def encode(plan: Plan) -> bytes:
    """The document of a plan. Raises KeyError or ValueError when its places are not those of its policy."""
    return _Encoder(plan).document()


class _Encoder:
    """One plan on its way into a document: what is named by an index, and collected once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        # Ids have names of files in them, and these need not be UTF-8.
        self._packer = msgpack.Packer(unicode_errors="backslashreplace")
        self._sets = {name: index for index, name in enumerate(plan.policy.sets)}
        self._counters: dict[str, int] = {}
        self._addresses: dict[Addresses, int] = {}

    def document(self) -> bytes:
        policy, pack = self._plan.policy, self._packer.pack
        sets = [self._set(definition) for definition in policy.sets.values()]
        rules: list[bytes] = []
        self._rules(policy.rules, rules)
        defaults = (policy.defaults.get(hook) for hook in Hook)
        head = {
            "version": VERSION,
            "fields": list(FIELDS),
            "allow": sorted(policy.allow),
            "defaults": [None if default is None else _decision(default.decision) for default in defaults],
            "on_failure": [policy.on_failure.get(cause) is Kind.ACCEPT for cause in CAUSES],
            "mark_mask": self._plan.mark_mask,
            "sets": sets,
            "counters": list(self._counters),
        }
        parts = [self._packer.pack_map_header(len(head) + 2)]
        parts += [pack(each) for entry in head.items() for each in entry]
        parts += [pack("addresses"), self._packer.pack_array_header(len(self._addresses))]
        parts += chain.from_iterable(map(self._packed, self._addresses))
        parts += [pack("rules"), self._packer.pack_array_header(len(rules)), *rules]
        return b"".join(parts)

    def _packed(self, addresses: Addresses) -> Iterator[bytes]:
        """Addresses as they stand in the document. What may be very large is copied only there."""
        yield self._packer.pack_map_header(2)
        for name, spans in (("v4", addresses.v4), ("v6", addresses.v6)):
            yield from (self._packer.pack(name), _BIN_32 + len(spans.packed).to_bytes(4, "big"), spans.packed)

    def _set(self, definition: SetDefinition) -> object:
        return {
            "name": definition.name,
            "type": definition.type,
            "dynamic": definition.dynamic,
            "timeout": _nanoseconds(definition.timeout),
            "size": definition.size,
            "elements": self._elements(definition.elements),
        }

    def _elements(self, elements: Addresses | Ranges | Strings) -> object:
        match elements:
            case Addresses():
                return {"addresses": self._address_index(elements)}
            case Ranges(ranges):
                return {"ranges": ranges}
            case Strings(values):
                return {"strings": sorted(values)}

    def _rules(self, siblings: tuple[Rule, ...], into: list[bytes]) -> None:
        """Append the rules and those inside them, in preorder."""
        for rule in siblings:
            encoded = self._rule(rule)
            index = len(into)
            into.append(b"")
            self._rules(rule.rules, into)
            encoded["end"] = len(into)
            into[index] = self._packer.pack(encoded)

    def _rule(self, rule: Rule) -> dict[str, object]:
        place = self._plan.places[rule.id]
        return {
            "id": rule.id,
            "hooks": sum({_HOOKS[hook] for hook in rule.hooks}),
            "end": 0,
            "match": self._condition(rule.match, place is Place.PYTHON),
            "limit": None if rule.limit is None else _limit(rule.limit),
            "actions": [self._action(action) for action in rule.actions],
            "verdict": None if rule.verdict is None else _decision(rule.verdict),
            "flow": rule.scope is Scope.FLOW,
            "place": place,
        }

    def _action(self, action: Action) -> Sequence[object]:
        match action:
            case Log():
                return ("log",)
            case Capture():
                return ("capture",)
            case Count(name):
                return ("count", self._counters.setdefault(name, len(self._counters)))
            case SetMark(value, mask):
                return ("mark", value, mask)
            case UpdateSet(SetOperation.ADD, name, element, timeout):
                return ("add", self._sets[name], _FIELDS[element], _nanoseconds(timeout))
            case UpdateSet(_, name, element):
                return ("delete", self._sets[name], _FIELDS[element])

    def _condition(self, condition: Condition, asks: bool) -> Sequence[object]:
        """A condition of a rule that asks Python for some of its tests, or for none."""
        match condition:
            case AllOf(conditions):
                return ("all", [self._condition(inner, asks) for inner in conditions])
            case AnyOf(conditions):
                return ("any", [self._condition(inner, asks) for inner in conditions])
            case NotOf(inner):
                return ("not", self._condition(inner, asks))
            case test if asks and needs_python(test):
                return ("python",)
            case FieldTest(field, match, _, depth):
                return ("field", _FIELDS[field], depth, self._test(match))
            case BytesTest(base, offset, value, mask, _, negated):
                return ("bytes", _BASES[base], offset, value, mask, negated)
            case ScapyTest() | PythonTest():
                raise ValueError(f"{condition}: expected a rule that the plan gives to Python")

    def _test(self, match: Match) -> Sequence[object]:
        match match:
            case Ranges(ranges):
                return ("ranges", ranges)
            case Addresses():
                return ("addresses", self._address_index(match))
            case Text(TextTest.REGEX, pattern):
                return ("regex", regex.translate(pattern))
            case Text(test, pattern):
                return (test, pattern)
            case TextLength(ranges):
                return ("length", ranges)
            case InSet(name):
                return ("set", self._sets[name])
            case Masked(value, mask):
                return ("masked", value, mask)
            case AnyBit(bits):
                return ("any_bit", bits)
            case NotMatch(inner):
                return ("not", self._test(inner))
            case AnyMatch(inners):
                return ("any", [self._test(inner) for inner in inners])
            case AllMatch(inners):
                return ("all", [self._test(inner) for inner in inners])

    def _address_index(self, addresses: Addresses) -> int:
        return self._addresses.setdefault(addresses, len(self._addresses))


def _limit(limit: Limit) -> object:
    return {
        "rate": limit.rate,
        "seconds": limit.seconds,
        "burst": limit.burst,
        "per": [_FIELDS[name] for name in limit.per],
        "over": limit.over,
    }


def _decision(decision: Decision) -> tuple[int, int]:
    """The kind's number, and a reject's code or a queue's number or else 0."""
    argument = decision.queue or 0 if decision.reject is None else decision.reject.code
    return _KINDS[decision.kind], argument


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000_000_000)
