"""Conditions that no packet can meet together. Only certain ones: whatever is not understood here narrows nothing.

Everything that a condition says about a packet is narrowed on one kind of fact, the numbers that a field may still
have: `icmp.type` says protocol 1 and family IPv4, an IPv6 address says family IPv6, `iifname` says some hooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from qfilter.errors import Position
from qfilter.fields import FIELDS, ICMP, ICMPV6, Family, Field
from qfilter.model.hook import Hook
from qfilter.model.match import Addresses, AllMatch, AnyMatch, Match, NotMatch, Ranges
from qfilter.model.rule import AllOf, AnyOf, Condition, FieldTest, NotOf
from qfilter.model.spans import Pair
from qfilter.policy.problems import Problems
from qfilter.policy.values import merge_ranges

_FAMILY = {family: FIELDS["family"].names[family] for family in Family}
_ICMP_FAMILY = {ICMP: Family.IPV4, ICMPV6: Family.IPV6}
"""The family of a protocol that packets.md calls malformed in the other one."""
_V6 = 1 << 32
"""Where IPv6 addresses begin when those of both families stand on one line."""
_LAST = _V6 + (1 << 128) - 1

_Ranges = tuple[Pair, ...]
_Key = tuple[str, int]
"""A field and the depth of its tunnel."""


def check(
    condition: Condition, problems: Problems, hooks: Iterable[Hook] = (), outer: Iterable[Condition] = ()
) -> None:
    """Report what contradicts itself, the hooks that its rule is limited to, or the matches of the rules around it."""
    facts = _Facts(problems)
    numbers = merge_ranges((hook.number, hook.number) for hook in hooks)
    if numbers:
        facts.narrow(("hook", 0), numbers, "the rule's `hook`")
    for around in outer:
        for test in conjunction(around):
            # An action may have changed the mark between the outer rule and this one.
            if isinstance(test, FieldTest) and test.field != "mark":
                facts.add(test)
    _check(condition, facts)


def _check(condition: Condition, facts: _Facts) -> None:
    facts = facts.copy()
    later: list[AnyOf | NotOf] = []
    for test in conjunction(condition):
        if isinstance(test, FieldTest):
            against = facts.add(test)
            if against:
                name = _name(test)
                facts.problems.add(
                    "contradiction", test.at, f"no packet can meet {name!r} together with {against}", width=len(name)
                )
        elif isinstance(test, AnyOf | NotOf):
            later.append(test)
    for test in later:
        if isinstance(test, AnyOf):
            for branch in test.conditions:
                _check(branch, facts)
        else:
            _check(test.condition, _Facts(facts.problems))


def conjunction(condition: Condition) -> Iterator[Condition]:
    """The conditions that must all hold, in file order."""
    if isinstance(condition, AllOf):
        for part in condition.conditions:
            yield from conjunction(part)
    else:
        yield condition


def _name(test: FieldTest) -> str:
    return "inner." * test.depth + test.field


@dataclass(slots=True)
class _Facts:
    """What numbers fields may still have, and who said so."""

    problems: Problems
    _said: dict[_Key, list[tuple[_Ranges, str]]] = field(default_factory=dict)
    _left: dict[_Key, _Ranges] = field(default_factory=dict)

    def copy(self) -> _Facts:
        return _Facts(self.problems, {key: list(said) for key, said in self._said.items()}, dict(self._left))

    def add(self, test: FieldTest) -> str | None:
        """Take in a test; who contradicts it, or None."""
        who = f"`{_name(test)}` at {_place(test.at)}"
        for key, ranges in _implied(test):
            against = self.narrow(key, ranges, who) if ranges else "itself"
            if against:
                return against
        return None

    def narrow(self, key: _Key, ranges: _Ranges, who: str) -> str | None:
        """Allow a field these numbers at most; who allowed none of them, or None. A contradiction changes nothing."""
        left = self._left.get(key)
        narrowed = ranges if left is None else intersect(left, ranges)
        if not narrowed:
            said = self._said[key]
            return next((other for allowed, other in said if not intersect(allowed, ranges)), said[-1][1])
        self._left[key] = narrowed
        self._said.setdefault(key, []).append((ranges, who))
        return None


def _implied(test: FieldTest) -> Iterator[tuple[_Key, _Ranges]]:
    """What a test says about its own field and about others."""
    row = FIELDS[test.field]
    if len(row.hooks) < len(Hook):
        yield ("hook", 0), merge_ranges((hook.number, hook.number) for hook in row.hooks)
    if row.protocols:
        yield from _protocols(merge_ranges((one, one) for one in row.protocols), test.depth)
    families = set(row.families) & _families(test.match)
    if len(families) < len(Family):
        yield _of_family(families, test.depth)
    possible = None if row.many else _possible(test.match, row)
    if possible is not None and test.field == "protocol":
        yield from _protocols(possible, test.depth)
    elif possible is not None:
        yield (test.field, test.depth), possible


def _protocols(allowed: _Ranges, depth: int) -> Iterator[tuple[_Key, _Ranges]]:
    yield ("protocol", depth), allowed
    for protocol, family in _ICMP_FAMILY.items():
        if depth == 0 and allowed == ((protocol, protocol),):
            yield _of_family({family}, depth)


def _of_family(allowed: set[Family], depth: int) -> tuple[_Key, _Ranges]:
    return ("family", depth), merge_ranges((_FAMILY[one], _FAMILY[one]) for one in allowed)


def _families(match: Match) -> set[Family]:
    """The families of the addresses that can match. Both when that is not certain: a set may have others tomorrow."""
    match match:
        case Addresses(v4, v6):
            return {family for family, ranges in ((Family.IPV4, v4), (Family.IPV6, v6)) if ranges}
        case AnyMatch(matches):
            return set().union(*(_families(one) for one in matches))
        case AllMatch(matches):
            return set(Family).intersection(*(_families(one) for one in matches))
    return set(Family)


def _possible(match: Match, row: Field) -> _Ranges | None:
    """The numbers (or addresses, as numbers) that can match, at most; None when that is not understood."""
    match match:
        case Ranges() | Addresses():
            return numbers(match)
        case NotMatch(Ranges(ranges)):
            return _complement(ranges, row.low, row.high)
        case NotMatch(Addresses() as addresses):
            return _complement(numbers(addresses), 0, _LAST)
        case AnyMatch(matches):
            parts = [_possible(one, row) for one in matches]
            known = [part for part in parts if part is not None]
            return merge_ranges(pair for part in known for pair in part) if len(known) == len(parts) else None
        case AllMatch(matches):
            left: _Ranges | None = None
            for one in matches:
                part = _possible(one, row)
                if part is not None:
                    left = part if left is None else intersect(left, part)
            return left
    return None


def numbers(match: Ranges | Addresses) -> _Ranges:
    """The numbers that match, sorted; those of addresses on one line for both families."""
    if isinstance(match, Ranges):
        return match.ranges
    return (*match.v4, *((low + _V6, high + _V6) for low, high in match.v6))


def intersect(one: _Ranges, other: _Ranges) -> _Ranges:
    """What two sorted lists of ranges share."""
    shared: list[Pair] = []
    i = j = 0
    while i < len(one) and j < len(other):
        low, high = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if low <= high:
            shared.append((low, high))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return tuple(shared)


def _complement(ranges: _Ranges, low: int, high: int) -> _Ranges:
    gaps: list[Pair] = []
    for first, last in ranges:
        if low < first:
            gaps.append((low, first - 1))
        low = last + 1
    return (*gaps, (low, high)) if low <= high else tuple(gaps)


def _place(at: Position) -> str:
    return f"{at.line}:{at.column}"
