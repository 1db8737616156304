"""A rule that repeats must leave a mark that it no longer matches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.errors import Position
from qfilter.model.match import AllMatch, AnyBit, AnyMatch, Masked, Match, NotMatch, Ranges
from qfilter.model.rule import AllOf, FieldTest, Rule, SetMark
from qfilter.model.verdict import Decision, Kind
from qfilter.policy import repeat
from qfilter.policy.actions import parse_actions
from qfilter.policy.conditions import parse_match
from qfilter.policy.node import Mapping, Sequence
from qfilter.policy.problems import Problems
from tests.unit.policy.reading import a_scope, mapping_of


def a_rule(text: str) -> Rule:
    scope = a_scope()
    node = mapping_of(text)
    inside = node.get("rules")
    match = parse_match(node.get("match") or mapping_of("{}"), scope)
    assert match is not None
    assert scope.problems.errors == ()
    return Rule(
        id="r",
        at=Position("p.yaml", 1, 1),
        match=match,
        actions=parse_actions(node, scope),
        verdict=Decision(Kind.REPEAT) if node.get("verdict") else None,
        rules=_rules(inside) if isinstance(inside, Sequence) else (),
    )


def _rules(node: Sequence) -> tuple[Rule, ...]:
    return tuple(_inner(item) for item in node.items if isinstance(item, Mapping))


def _inner(node: Mapping) -> Rule:
    scope = a_scope()
    match = node.get("match")
    condition = AllOf(()) if match is None else parse_match(match, scope)
    assert condition is not None
    verdict = Decision(Kind.REPEAT) if node.get("verdict") else None
    return Rule(id="inner", at=node.at, match=condition, actions=parse_actions(node, scope), verdict=verdict)


def loops(*texts: str) -> int:
    problems = Problems()
    repeat.check([a_rule(text) for text in texts], problems)
    assert {one.kind for one in problems.errors} <= {"repeat-loop"}
    return len(problems.found)


@pytest.mark.parametrize(
    "text",
    [
        "{match: {mark: 0}, mark: 1, verdict: repeat}",
        "{match: {mark: 0x0/0xff}, mark: {set: 1, mask: 0xff}, verdict: repeat}",
        "{match: {mark: {not: 0x1/0x1}}, mark: {set: 1, mask: 1}, verdict: repeat}",
        "{match: {mark: {not: 5}}, mark: 5, verdict: repeat}",
        "{match: {mark: {lt: 256}}, mark: {set: 0x100, mask: 0x100}, verdict: repeat}",
        "{match: {mark: [0, 2, 4]}, mark: {set: 1, mask: 1}, verdict: repeat}",
        "{match: {protocol: tcp, all: [{mark: 0}]}, mark: 1, verdict: repeat}",
        "{match: {mark: 0}, rules: [{mark: 1, verdict: repeat}]}",
    ],
)
def test_what_ends(text: str) -> None:
    assert loops(text) == 0


@pytest.mark.parametrize(
    "text",
    [
        "{match: {protocol: tcp}, verdict: repeat}",
        "{match: {protocol: tcp}, mark: 1, verdict: repeat}",
        "{match: {mark: 0}, verdict: repeat}",
        "{match: {mark: 0}, mark: 0, verdict: repeat}",
        "{match: {mark: {ge: 1}}, mark: 2, verdict: repeat}",
        "{match: {mark: 0x0/0xff}, mark: {set: 0x100, mask: 0x100}, verdict: repeat}",
        "{match: {mark: {not: 0x1/0x3}}, mark: {set: 1, mask: 1}, verdict: repeat}",
        "{match: {any: [{mark: 0}, {protocol: tcp}]}, mark: 1, verdict: repeat}",
        "{match: {mark: [0, 3]}, mark: {set: 1, mask: 1}, verdict: repeat}",
        "{match: {mark: $numbers}, mark: 1, verdict: repeat}",
        "{mark: 0, rules: [{match: {mark: 0}, mark: 1, verdict: repeat}]}",
    ],
)
def test_what_goes_round_for_ever(text: str) -> None:
    assert loops(text) == 1


def test_an_earlier_rule_that_takes_the_mark_back() -> None:
    ends = "{match: {mark: 0x0/0x1}, mark: {set: 1, mask: 1}, verdict: repeat}"
    assert loops("{mark: {set: 2, mask: 2}}", ends) == 0
    assert loops("{mark: {set: 1, mask: 1}}", ends) == 0
    assert loops("{match: {protocol: tcp}, mark: 0}", ends) == 1
    assert loops(ends, "{mark: 0}") == 0


# The decision on 32 bits, against all numbers of a few.

_FEW = st.integers(0, 15)
_BASIC: st.SearchStrategy[Match] = (
    st.lists(st.tuples(_FEW, _FEW).map(lambda pair: (min(pair), max(pair))), max_size=1).map(lambda r: Ranges(tuple(r)))
    | st.builds(Masked, _FEW, _FEW)
    | st.builds(AnyBit, _FEW)
)
_MATCHES = st.recursive(
    _BASIC,
    lambda inner: (
        inner.map(NotMatch)
        | st.lists(inner, max_size=2).map(lambda some: AnyMatch(tuple(some)))
        | st.lists(inner, max_size=2).map(lambda some: AllMatch(tuple(some)))
    ),
    max_leaves=4,
)


def _matches(match: Match, number: int) -> bool:
    match match:
        case Ranges(ranges):
            return any(low <= number <= high for low, high in ranges)
        case Masked(value, mask):
            return number & mask == value
        case AnyBit(bits):
            return number & bits != 0
        case NotMatch(inner):
            return not _matches(inner, number)
        case AnyMatch(inners):
            return any(_matches(one, number) for one in inners)
        case AllMatch(inners):
            return all(_matches(one, number) for one in inners)
    raise AssertionError(match)


@given(_MATCHES, _FEW, _FEW)
def test_a_loop_is_never_taken_for_an_end(match: Match, value: int, mask: int) -> None:
    at = Position("p.yaml", 1, 1)
    value &= mask
    rule = Rule(id="r", at=at, match=FieldTest("mark", match, at), actions=(SetMark(value, mask),))
    after = [number & ~mask | value for number in range(64)]
    if repeat.repeat_guard([rule], ()):
        assert not any(_matches(match, number) for number in after)
    elif isinstance(match, Ranges | Masked | AnyBit):
        some = any(_matches(match, number) for number in range(64))
        assert not some or any(_matches(match, number) for number in after)
