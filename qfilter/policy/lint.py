"""What means something by itself but makes no sense in its place. Only what is certain is reported."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from qfilter.errors import Position
from qfilter.model.hook import Hook
from qfilter.model.policy import QueueSettings, TestCase
from qfilter.model.rule import Rule, SetMark
from qfilter.policy.covering import Deciding
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


def unreachable(
    siblings: tuple[Rule, ...], hooks: Collection[Hook], file: str, problems: Problems, unread: Collection[Position]
) -> None:
    """Rules behind a sibling that decides all their packets, and rules of the policy's own file for no hook in force.

    The first are mistakes; the second wait for a hook that somebody may have switched off for now. Of the rules at
    `unread` it is not known which packets they take.
    """
    deciding = Deciding()
    for rule in siblings:
        here = [hook for hook in rule.hooks or Hook if hook in hooks]
        if here and rule.at not in unread:
            first = deciding.covering(rule, here)
            if first is None:
                deciding.add(rule)
            else:
                _never_reached(rule, f"{first.id!r} at {first.at} decides all its packets", "error", problems)
        elif not here and rule.at.file == file:
            reason = f"expected a hook in force here: {', '.join(hooks)}"
            _never_reached(rule, f"its hook {', '.join(rule.hooks)!r} never comes here: {reason}", "warning", problems)
        unreachable(rule.rules, here or hooks, file, problems, unread)


def marks(rules: tuple[Rule, ...], queue: QueueSettings, problems: Problems) -> None:
    """Rules that set bits with which qfilter hands rejects back to the kernel: their packets would be rejected."""
    for rule in rules:
        for action in rule.actions:
            if isinstance(action, SetMark) and action.value & queue.mark_mask:
                message = f"mark {action.value:#x} has bits of mark_mask {queue.mark_mask:#x} in it: expected others"
                problems.add("contradiction", rule.at, message)
        marks(rule.rules, queue, problems)


def _never_reached(rule: Rule, why: str, severity: str, problems: Problems) -> None:
    problems.add("unreachable", rule.at, f"rule {rule.id!r} is never reached: {why}", severity=severity)
