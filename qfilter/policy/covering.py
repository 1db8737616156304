"""Which earlier rule decides all packets of a later one. Only certain cases: what both say about the same thing.

A rule covers another when each of its conditions follows from one condition of the other: they are the same, or the
numbers or addresses of one field lie inside those of the other. Where such a condition is false the other is false too,
and where it is unknown the evaluation ends, so the later rule never has a say.

A rule is compared with so many others at most: in a policy whose rules all overlap, one that is never reached may go
untold.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from qfilter.model.hook import Hook
from qfilter.model.match import Addresses, AllMatch, AnyMatch, InSet, Match, NotMatch, Ranges
from qfilter.model.rule import AllOf, AnyOf, BytesTest, Condition, FieldTest, NotOf, PythonTest, Rule, ScapyTest
from qfilter.model.spans import Pair
from qfilter.policy.contradictions import conjunction, numbers

_Shape = tuple[object, ...]
"""A condition without its positions; empty where two evaluations for one packet may differ."""
_Ranges = tuple[Pair, ...]
_Place = tuple[_Shape, int, int]
"""Where rules are filed: by a condition's shape, or by its field and a block of 2**level numbers; see `_Part`."""
_EVERYWHERE: _Place = ((), 0, 0)
_SAME = -1
"""The level of a condition that must be the same."""
_FEW = 64
"""Ranges that a rule is filed under at most."""
_MOST = 1_024
"""Ranges of a rule that are compared at most; a comparison with another rule counts as `_EACH` at least."""
_EACH = 8


class Deciding:
    """Siblings that decide every packet that they match.

    Each is filed under one of its conditions, so that a rule is compared with few of them: comparing all with all takes
    minutes for a policy of ten thousand rules.
    """

    def __init__(self) -> None:
        self._filed: defaultdict[_Place, list[_Filed]] = defaultdict(list)
        self._levels: set[int] = set()

    def add(self, rule: Rule) -> None:
        """Take in the next rule, if it is one that decides."""
        parts = [_part(test) for test in conjunction(rule.match)]
        certain = tuple(part for part in parts if part is not None)
        if rule.verdict is None or rule.limit is not None or len(certain) < len(parts):
            return
        choices = [part.filed_at() for part in certain if len(part.ranges) <= _FEW] or [{_EVERYWHERE}]
        chosen = min(choices, key=lambda places: max((len(self._filed[place]) for place in places), default=0))
        filed = _Filed(rule, frozenset(rule.hooks or Hook), certain)
        for place in chosen:
            self._filed[place].append(filed)
            self._levels.add(place[1])

    def covering(self, rule: Rule, hooks: Collection[Hook]) -> Rule | None:
        """One of them that leaves the rule no packet on these hooks."""
        parts = [part for test in conjunction(rule.match) if (part := _part(test)) is not None]
        places = (place for part in parts for place in part.looked_for_at(self._levels))
        later = _Later(frozenset(hooks), parts)
        for other in chain.from_iterable(self._filed.get(place, ()) for place in (_EVERYWHERE, *places)):
            if later.left <= 0:
                break
            if later.is_covered_by(other):
                return other.rule
        return None


@dataclass(frozen=True, slots=True)
class _Filed:
    """A rule that decides, and its conditions."""

    rule: Rule
    hooks: frozenset[Hook]
    needed: tuple[_Part, ...]


class _Later:
    """A rule that is compared with those before it."""

    def __init__(self, hooks: frozenset[Hook], parts: Iterable[_Part]) -> None:
        self.left = _MOST
        self._hooks = hooks
        self._parts: defaultdict[_Shape, list[_Part]] = defaultdict(list)
        for part in parts:
            self._parts[part.shape].append(part)

    def is_covered_by(self, other: _Filed) -> bool:
        self.left -= _EACH
        return self._hooks <= other.hooks and all(map(self._implies, other.needed))

    def _implies(self, needed: _Part) -> bool:
        """Whether that is true, false or unknown where one of ours is true, false or unknown, or is true for more."""
        return any(self._inside(part.ranges, needed.ranges) for part in self._parts.get(needed.shape, ()))

    def _inside(self, narrow: _Ranges, wide: _Ranges) -> bool:
        for low, high in narrow:
            self.left -= 1
            at = bisect_right(wide, (low, math.inf))
            if at == 0 or high > wide[at - 1][1]:
                return False
        return True


@dataclass(frozen=True, slots=True)
class _Part:
    """One condition of a match: something that must be the same, or a field's numbers in sorted ranges."""

    shape: _Shape
    """For numbers the field and its depth."""
    ranges: _Ranges = ()

    def filed_at(self) -> set[_Place]:
        """A range that is shorter than 2**level touches at most two blocks of that length."""
        if not self.ranges:
            return {(self.shape, _SAME, 0)}
        sized = [((high - low).bit_length(), low, high) for low, high in self.ranges]
        return {(self.shape, level, number >> level) for level, *ends in sized for number in ends}

    def looked_for_at(self, levels: Iterable[int]) -> Iterator[_Place]:
        """Where whatever holds all of its numbers is filed: that holds its first number too."""
        if not self.ranges:
            yield (self.shape, _SAME, 0)
        else:
            first = self.ranges[0][0]
            yield from ((self.shape, level, first >> level) for level in levels if level != _SAME)


def _part(condition: Condition) -> _Part | None:
    """None for what an action, or time, may have changed between two rules."""
    if isinstance(condition, FieldTest) and isinstance(condition.match, Ranges | Addresses) and _shape(condition):
        found = numbers(condition.match)
        return _Part((condition.field, condition.depth), found) if found else None
    shape = _shape(condition)
    return _Part(shape) if shape else None


def _shape(condition: Condition) -> _Shape:
    match condition:
        case FieldTest(field, match, _, depth):
            # Rules in between may change the mark, or what is in a set.
            return () if field == "mark" or _looks_up(match) else (field, match, depth)
        case ScapyTest(layer, field, match, _):
            return () if _looks_up(match) else ("scapy", layer, field, match)
        case BytesTest(base, offset, value, mask, _, negated):
            return (base, offset, value, mask, negated)
        case PythonTest():
            return ()
        case AllOf(parts) | AnyOf(parts):
            inner = tuple(map(_shape, parts))
            return (type(condition), *inner) if all(inner) else ()
        case NotOf(part):
            shape = _shape(part)
            return (NotOf, shape) if shape else ()


def _looks_up(match: Match) -> bool:
    match match:
        case InSet():
            return True
        case NotMatch(inner):
            return _looks_up(inner)
        case AnyMatch(matches) | AllMatch(matches):
            return any(map(_looks_up, matches))
    return False
