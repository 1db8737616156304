"""Which remembered flows may outlive the policy that decided them. Pure, and the same for every engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import takewhile

from qfilter.compiler.reads import sets
from qfilter.compiler.walk import tests
from qfilter.errors import Position
from qfilter.model.policy import Policy, SetDefinition
from qfilter.model.rule import AllOf, AnyOf, Condition, NotOf, PythonTest, Rule, Scope

_NOWHERE = Position("", 0, 0)


def kept_flows(old: Policy, new: Policy) -> Mapping[str, Position]:
    """The `scope: flow` rules whose flows go on under the new policy, with their new places.

    A flow keeps its verdict only where the new policy would have come to the same one. Its first packet is gone, so
    that can be known only as far as both policies begin alike: every rule up to the flow's own, the elements of every
    set that these look at, and what is malformed. A `python` condition may have changed without a trace in the policy,
    so it ends what is alike. All other flows are judged by the rules again.
    """
    if old.allow != new.allow or old.queue.deadline != new.queue.deadline:
        return {}
    both = zip(_flat(old.rules), _flat(new.rules), strict=False)
    alike = takewhile(lambda pair: pair[0][0] == pair[1][0] and _alike(pair[0][1], pair[1][1], old, new), both)
    return {rule.id: rule.at for _, (_, rule) in alike if rule.scope is Scope.FLOW}


def placeless(rule: Rule) -> Rule:
    """A rule as it compares: without its places in the file, and without the rules inside it."""
    return replace(rule, at=_NOWHERE, match=_placeless(rule.match), rules=())


def _flat(rules: Iterable[Rule], depth: int = 0) -> Iterator[tuple[int, Rule]]:
    for rule in rules:
        yield depth, rule
        yield from _flat(rule.rules, depth + 1)


def _alike(rule: Rule, other: Rule, old: Policy, new: Policy) -> bool:
    if placeless(rule) != placeless(other) or any(isinstance(test, PythonTest) for test in tests(rule.match)):
        return False
    return all(_same_set(old.sets[name], new.sets[name]) for name in sets(rule))


def _same_set(one: SetDefinition, other: SetDefinition) -> bool:
    return (one.dynamic, one.type, one.elements) == (other.dynamic, other.type, other.elements)


def _placeless(condition: Condition) -> Condition:
    match condition:
        case AllOf(conditions):
            return AllOf(tuple(map(_placeless, conditions)))
        case AnyOf(conditions):
            return AnyOf(tuple(map(_placeless, conditions)))
        case NotOf(inner):
            return NotOf(_placeless(inner))
        case _:
            return replace(condition, at=_NOWHERE)
