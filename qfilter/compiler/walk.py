"""Every rule with the hooks where it can be reached, and every test inside a condition."""

from __future__ import annotations

from collections.abc import Iterator

from qfilter.model.hook import Hook
from qfilter.model.policy import Policy
from qfilter.model.rule import AllOf, AnyOf, BytesTest, Condition, FieldTest, NotOf, PythonTest, Rule, ScapyTest

Test = FieldTest | ScapyTest | BytesTest | PythonTest


def rules(policy: Policy) -> Iterator[tuple[Rule, tuple[Hook, ...]]]:
    """Every rule in file order, with the hooks that are in force, that it names and that all its parents name."""
    in_force = tuple(hook for hook in Hook if hook in policy.defaults)
    yield from _below(policy.rules, in_force)


def _below(siblings: tuple[Rule, ...], hooks: tuple[Hook, ...]) -> Iterator[tuple[Rule, tuple[Hook, ...]]]:
    for rule in siblings:
        reached = tuple(hook for hook in hooks if hook in rule.hooks) if rule.hooks else hooks
        yield rule, reached
        yield from _below(rule.rules, reached)


def tests(condition: Condition) -> Iterator[Test]:
    """The tests that a condition is made of, in file order."""
    ahead = [condition]
    while ahead:
        first = ahead.pop()
        if isinstance(first, AllOf | AnyOf):
            ahead.extend(reversed(first.conditions))
        elif isinstance(first, NotOf):
            ahead.append(first.condition)
        else:
            yield first
