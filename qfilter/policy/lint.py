"""What means something by itself but makes no sense in its place. Only what is certain is reported."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain

from qfilter.model.hook import Hook
from qfilter.model.match import AllMatch, AnyMatch, InSet, Match, NotMatch
from qfilter.model.policy import QueueSettings, TestCase
from qfilter.model.rule import (
    AllOf,
    AnyOf,
    BytesTest,
    Condition,
    FieldTest,
    NotOf,
    PythonTest,
    Rule,
    ScapyTest,
    SetMark,
)
from qfilter.policy.definitions import Declared
from qfilter.policy.problems import Problems
from qfilter.policy.scope import Scope


def unused(names: Iterable[Declared], file: str, scope: Scope) -> None:
    """Names of a file that nothing refers to. Those of a library that is included may wait for another policy."""
    for entry in names:
        if entry.key.at.file == file and entry.name not in scope.used:
            message = f"nothing refers to '${entry.name}': expected a use, or no such entry"
            scope.problems.error("unused", entry.key, message)


def tests(cases: Iterable[TestCase], hooks: Collection[Hook], file: str, problems: Problems) -> None:
    """Tests on hooks that are not in force. Those of a library wait for a policy that has the hook."""
    for case in cases:
        strange = [packet["hook"] for packet in (*case.after, case.packet) if packet["hook"] not in hooks]
        if case.at.file == file and strange:
            message = f"hook {strange[0]!r} has no default in this policy: expected one of {', '.join(hooks)}"
            problems.add("undefined", case.at, message)


def unreachable(siblings: tuple[Rule, ...], hooks: Collection[Hook], file: str, problems: Problems) -> None:
    """Rules behind a sibling that decides all their packets, and rules of the policy's own file for no hook in force.

    A sibling does that when it has a verdict, at least the same hooks, and the same match or none.
    """
    deciding: dict[object, list[Rule]] = {_ALWAYS: []}
    for rule in siblings:
        here = [hook for hook in rule.hooks or Hook if hook in hooks]
        shape = _shape(rule.match)
        earlier = chain(deciding[_ALWAYS], deciding.get(shape, ()) if shape else ())
        first = next((other for other in earlier if set(here) <= set(other.hooks or Hook)), None)
        if rule.hooks and not here:
            if rule.at.file == file:
                reason = f"expected a hook in force here: {', '.join(hooks)}"
                _warn(rule, f"its hook {', '.join(rule.hooks)!r} never comes here: {reason}", problems)
        elif first is not None:
            _warn(rule, f"{first.id!r} at {first.at} decides all its packets", problems)
        if rule.verdict is not None and rule.limit is None and shape:
            deciding.setdefault(shape, []).append(rule)
        unreachable(rule.rules, here or hooks, file, problems)


def marks(rules: tuple[Rule, ...], queue: QueueSettings, problems: Problems) -> None:
    """Rules that set bits with which qfilter hands rejects back to the kernel: their packets would be rejected."""
    for rule in rules:
        for action in rule.actions:
            if isinstance(action, SetMark) and action.value & queue.mark_mask:
                message = f"mark {action.value:#x} has bits of mark_mask {queue.mark_mask:#x} in it: expected others"
                problems.add("contradiction", rule.at, message)
        marks(rule.rules, queue, problems)


def _warn(rule: Rule, why: str, problems: Problems) -> None:
    problems.add("unreachable", rule.at, f"rule {rule.id!r} is never reached: {why}", severity="warning")


_Shape = tuple[object, ...]
"""A condition without its positions; empty where two evaluations for one packet may differ."""


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


_ALWAYS = _shape(AllOf(()))
